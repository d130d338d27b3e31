package status

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/version"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Host inspects the host that it runs on.
type Host struct {
	// DataDir is on the disk whose room counts.
	DataDir       string
	Containerd    func(ctx context.Context) (string, error)
	CgroupVersion int
	// Proof is what came of dumping and restoring here last; nil where it was not tried yet.
	Proof func() *drydockv1.RestoreProof

	mu     sync.Mutex
	steady *drydockv1.HostInfo
	until  time.Time
}

// steadyFor is how long what rarely changes is not looked at again.
const steadyFor = time.Minute

// Inspect tells what the host is and can do now. What is wrong with it is a problem in the answer, not an error.
func (h *Host) Inspect(ctx context.Context) (*drydockv1.HostInfo, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.steady == nil || time.Now().After(h.until) {
		h.steady, h.until = h.inspectSteady(ctx), time.Now().Add(steadyFor)
		if len(h.steady.Problems) > 0 {
			h.until = time.Now()
		}
	}
	info := proto.Clone(h.steady).(*drydockv1.HostInfo)
	memory, err := meminfo()
	if err != nil {
		return nil, err
	}
	info.MemoryBytes, info.MemoryAvailableBytes = memory["MemTotal"], memory["MemAvailable"]
	var disk unix.Statfs_t
	if err := unix.Statfs(h.DataDir, &disk); err != nil {
		return nil, fmt.Errorf("room on the disk of %s: %w", h.DataDir, err)
	}
	info.DiskAvailableBytes = int64(disk.Bavail) * disk.Bsize
	info.Load = loadAverages()
	info.Filesystems = filesystems("/", "/boot", h.DataDir)
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err == nil {
		info.Uptime = durationpb.New(time.Duration(up.Nano()))
	}
	if h.Proof != nil {
		info.Proof = h.Proof()
	}
	if why := unproven(info.Proof); why != nil {
		info.Problems = append(info.Problems, why)
	}
	return info, nil
}

func (h *Host) inspectSteady(ctx context.Context) *drydockv1.HostInfo {
	info := &drydockv1.HostInfo{
		Arch: runtime.GOARCH, Cpus: int32(runtime.NumCPU()), AgentVersion: version.String(), Api: version.API,
		CgroupVersion: int32(h.CgroupVersion), Simulated: os.Getenv("DRYDOCK_LAB") != "",
	}
	problem := func(remedy, format string, args ...any) {
		info.Problems = append(info.Problems, &drydockv1.Refusal{Reason: fmt.Sprintf(format, args...), Remedy: remedy})
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		info.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	info.Os = osName()
	info.CpuModel, info.CpuFeatures = processor()
	var err error
	if info.ContainerdVersion, err = h.Containerd(ctx); err != nil {
		problem("start containerd, and see its journal", "containerd does not answer: %v", err)
	}
	if info.RuncVersion, err = firstLine(ctx, "runc", "--version"); err != nil {
		problem("install runc", "runc: %v", err)
	}
	info.RuncVersion = strings.TrimPrefix(info.RuncVersion, "runc version ")
	line, err := firstLine(ctx, "criu", "--version")
	if err != nil {
		problem("install CRIU 4.2 or later", "CRIU: %v", err)
	}
	info.CriuVersion = strings.TrimPrefix(line, "Version: ")
	info.CriuFeatures = criuFeatures(ctx)
	return info
}

// criuFeatures asks CRIU what it can do on this kernel.
func criuFeatures(ctx context.Context) map[string]bool {
	features := make(map[string]bool)
	for _, name := range []string{"mem_dirty_track", "lazy_pages", "uffd-noncoop", "pidfd_store", "time_namespace"} {
		features[name] = exec.CommandContext(ctx, "criu", "check", "--feature", name).Run() == nil
	}
	return features
}

func firstLine(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), nil
}

func osName() string {
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	for _, line := range strings.Split(string(data), "\n") {
		if value, found := strings.CutPrefix(line, "PRETTY_NAME="); found {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

func processor() (model string, features []string) {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", nil
	}
	for _, line := range strings.Split(string(data), "\n") {
		key, value, found := strings.Cut(line, ":")
		switch key = strings.TrimSpace(key); {
		case !found:
		case key == "model name" && model == "":
			model = strings.TrimSpace(value)
		case (key == "flags" || key == "Features") && features == nil:
			features = strings.Fields(value)
		}
	}
	return model, features
}

// loadAverages are over 1, 5 and 15 minutes; none where they cannot be read.
func loadAverages() []float64 {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return nil
	}
	var averages []float64
	for _, field := range strings.Fields(string(data))[:3] {
		value, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return nil
		}
		averages = append(averages, value)
	}
	return averages
}

// filesystems are those that paths are on, each named by the first of them. A path that is not there is left out: not every host
// has a /boot.
func filesystems(paths ...string) []*drydockv1.Filesystem {
	var found []*drydockv1.Filesystem
	seen := make(map[uint64]bool)
	for _, path := range paths {
		var stat unix.Stat_t
		var fs unix.Statfs_t
		if unix.Stat(path, &stat) != nil || unix.Statfs(path, &fs) != nil || seen[stat.Dev] {
			continue
		}
		seen[stat.Dev] = true
		found = append(found, &drydockv1.Filesystem{Path: path, Bytes: int64(fs.Blocks) * fs.Bsize, AvailableBytes: int64(fs.Bavail) * fs.Bsize})
	}
	return found
}

func meminfo() (map[string]int64, error) {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return nil, fmt.Errorf("memory of this host: %w", err)
	}
	defer file.Close()
	values := make(map[string]int64)
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		key, value, _ := strings.Cut(scanner.Text(), ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		if kib, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
			values[key] = kib << 10
		}
	}
	return values, nil
}

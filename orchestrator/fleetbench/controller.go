package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"drydock/internal/config"
	"drydock/orchestrator"
)

// childConfig names the configuration of the controller that this program is to be, and childProfile where it profiles itself
// between two SIGUSR1.
const (
	childConfig  = "DRYDOCK_FLEET_CONTROLLER"
	childProfile = "DRYDOCK_FLEET_PROFILE"
)

// controllerCore is the core that the controller has.
const controllerCore = 0

func beController(path string) error {
	runtime.GOMAXPROCS(1)
	if err := useCores([]int{controllerCore}); err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var cfg config.Controller
	if err := json.Unmarshal(data, &cfg); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if profile := os.Getenv(childProfile); profile != "" {
		go profileBetweenSignals(profile)
	}
	return orchestrator.Run(ctx, cfg)
}

func profileBetweenSignals(path string) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	<-signals
	file, err := os.Create(path)
	if err == nil {
		err = pprof.StartCPUProfile(file)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "no profile: %v\n", err)
		return
	}
	<-signals
	pprof.StopCPUProfile()
	_ = file.Close() // a profile that was not written whole is not read
	if heap, err := os.Create(path + heapSuffix); err == nil {
		_ = pprof.Lookup("heap").WriteTo(heap, 0)
		_ = heap.Close()
	}
}

// heapSuffix is behind the name of the profile in the one of what its memory is for.
const heapSuffix = ".heap"

// useCores pins every thread of this process, and so all that come, to some cores.
func useCores(cores []int) error {
	var set unix.CPUSet
	for _, core := range cores {
		set.Set(core)
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		id, err := strconv.Atoi(task.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, &set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("use cores %v: %w", cores, err)
		}
	}
	return nil
}

// otherCores are all but the controller's; that one too where there is no other.
func otherCores() []int {
	var others []int
	for core := range runtime.NumCPU() {
		if core != controllerCore {
			others = append(others, core)
		}
	}
	if others == nil {
		return []int{controllerCore}
	}
	return others
}

// controller is the process that is measured.
type controller struct {
	cfg config.Controller
	cmd *exec.Cmd
}

func startController(ctx context.Context, work string, o options) (*controller, error) {
	cfg, err := config.LoadController("", nil)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	cfg.Listen = listener.Addr().String()
	cfg.DataDir, cfg.Socket = filepath.Join(work, "controller"), filepath.Join(work, "s")
	cfg.Timings.ReportInterval, cfg.Timings.UnreachableAfter = o.interval, 4*o.interval
	cfg.Log.Level = "error" // a busy machine makes etcd complain of its disk
	data, err := json.Marshal(cfg)
	path := filepath.Join(work, "controller.json")
	if err := errors.Join(err, listener.Close(), os.WriteFile(path, data, 0o600)); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), childConfig+"="+path, childProfile+"="+o.profile)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &controller{cfg: cfg, cmd: cmd}, nil
}

func (c *controller) stop() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	return c.cmd.Wait()
}

// spent is the processor time that the controller has used.
func (c *controller) spent() (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// Behind the name, which may hold spaces, utime and stime are the 12th and 13th field, in hundredths of a second.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	system, also := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err, also)
}

// peak is the most memory that the controller has had, in MB.
func (c *controller) peak() (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			return kb >> 10, err
		}
	}
	return 0, errors.New("the kernel does not say how much memory the controller has had")
}

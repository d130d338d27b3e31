package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Hosts run Debian's stable release, with CRIU and the libraries that it needs from the testing one: stable's CRIU
// cannot dump TCP sockets on kernels from 6.16 on.
const (
	// BaseSuite is what the hosts have all but CRIU from.
	BaseSuite = "trixie"
	criuSuite = "forky"
)

func basePackages() []string {
	return []string{
		"ca-certificates", "containerd", "criu", "iproute2", "iptables", "iputils-ping", "nftables", "procps", "runc", "util-linux",
	}
}

const basePreferences = `Package: *
Pin: release n=` + criuSuite + `
Pin-Priority: 1

Package: criu libcompel1 libnet9 libnl-3-200
Pin: release n=` + criuSuite + `
Pin-Priority: 990
`

// recipe says how a root file system is made. Its hash names the result.
type recipe struct {
	kind     rootKind
	packages []string
	mirror   mirror
	// kernel is the suite whose kernel is installed; empty for the base suite's.
	kernel string
}

// rootKind is what a root is for.
type rootKind int

const (
	currentRoot   rootKind = iota // hosts with all updates
	behindRoot                    // hosts as the last point release left them, with what the lab makes updates of itself
	behindMachine                 // the same for virtual machines, without those
	proxyRoot                     // the node that fetches packages
)

func (k rootKind) String() string {
	return [...]string{"the hosts' root file system", "the root file system of hosts with updates pending",
		"the root file system of virtual machines with updates pending", "the package proxy's root file system"}[k]
}

func newRecipe(extra []string) recipe {
	packages := append(basePackages(), extra...)
	slices.Sort(packages)
	return recipe{packages: slices.Compact(packages)}
}

// hash covers everything that decides what is in the root, but not where it is downloaded from.
func (r recipe) hash() string {
	fixed := r
	fixed.mirror = mirror{"debian", "security"}
	sum := sha256.Sum256([]byte(strings.Join(fixed.arguments("root", "preferences"), "\n") + r.preferences()))
	return hex.EncodeToString(sum[:6])
}

// preferences are apt's: which suite a package is taken from.
func (r recipe) preferences() string {
	if r.kernel == "" {
		return basePreferences
	}
	return basePreferences + "\nPackage: linux-image-*\nPin: release n=" + r.kernel + "\nPin-Priority: 1001\n"
}

func (r recipe) path() string { return filepath.Join(cacheTop, "root-"+r.hash()) }

// arguments are mmdebstrap's, to make the root in dir with the file of preferences in place from the start.
func (r recipe) arguments(dir, preferences string) []string {
	variant, hooks := "minbase", []string{
		`--setup-hook=mkdir -p "$1/etc/apt/preferences.d"`,
		"--setup-hook=copy-in " + preferences + " /etc/apt/preferences.d",
	}
	sources := []string{
		fmt.Sprintf("deb %s %s main", r.mirror.archive, BaseSuite),
		fmt.Sprintf("deb %s %s-security main", r.mirror.security, BaseSuite),
		// The testing release's index is at times past its date on mirrors; its signature is still verified.
		fmt.Sprintf("deb [check-valid-until=no] %s %s main", r.mirror.archive, criuSuite),
	}
	if r.kernel != "" {
		sources = append(sources, fmt.Sprintf("deb %s %s main", r.mirror.archive, r.kernel))
	}
	switch r.kind {
	case behindRoot:
		hooks = append(hooks, "--customize-hook="+keepPackages())
		sources = slices.Delete(sources, 1, 2)
	case behindMachine:
		sources = slices.Delete(sources, 1, 2)
	case proxyRoot:
		variant, hooks, sources = "essential", nil, sources[:2]
	}
	args := []string{
		"--quiet", "--mode=root", "--format=directory", "--variant=" + variant,
		`--aptopt=APT::Install-Recommends "false"`,
		"--include=" + strings.Join(r.packages, ","),
	}
	return append(append(append(args, hooks...), BaseSuite, dir), sources...)
}

// ensure returns the cached root, and makes it first where it is missing. Two that want it at once make it once.
func (r recipe) ensure(ctx context.Context, progress io.Writer) (string, error) {
	unlock, err := lock(ctx, "root-"+r.hash())
	if err != nil {
		return "", err
	}
	defer unlock()
	tmp := r.path() + partial
	if err := removePartial(tmp); err != nil {
		return "", err
	}
	if _, err := os.Stat(r.path()); err == nil {
		return r.path(), nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("root file system: %w", err)
	}
	if err := installTools(ctx, progress); err != nil {
		return "", err
	}
	if r.mirror, err = machineMirror(ctx); err != nil {
		return "", err
	}
	fmt.Fprintf(progress, "making %s from %s, once (about a minute)\n", r.kind, r.mirror.archive)
	err = r.build(ctx, tmp)
	if err == nil && r.kind == behindRoot {
		err = rebuildPackages(ctx, tmp)
	}
	if err != nil {
		return "", errors.Join(err, removePartial(tmp))
	}
	if err := os.Rename(tmp, r.path()); err != nil {
		return "", fmt.Errorf("root file system: %w", err)
	}
	return r.path(), nil
}

// HostRoot returns the root file system that hosts are made from, and makes it where the cache lacks it. It is not to be
// written to.
func HostRoot(ctx context.Context, progress io.Writer) (string, error) {
	return newRecipe(nil).ensure(ctx, progress)
}

// build makes the root in dir. mmdebstrap works in a PID and a mount namespace that end with this process, so that
// nothing of it goes on when this process is killed.
func (r recipe) build(ctx context.Context, dir string) error {
	work := dir + workDir
	if err := errors.Join(removeTree(work), os.Mkdir(work, 0o755)); err != nil {
		return fmt.Errorf("make the root file system: %w", err)
	}
	defer removeTree(work)
	pins := filepath.Join(work, "drydock-lab")
	if err := os.WriteFile(pins, []byte(r.preferences()), 0o644); err != nil {
		return fmt.Errorf("make the root file system: %w", err)
	}
	argv := append([]string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "mmdebstrap"}, r.arguments(dir, pins)...)
	cmd := exec.CommandContext(ctx, "unshare", argv...)
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.Env = append(os.Environ(), "TMPDIR="+work, "LC_ALL=C.UTF-8")
	if err := runQuietly(cmd); err != nil {
		return fmt.Errorf("make the root file system: %w", err)
	}
	return nil
}

// What a root is called until it is whole, and what is added for the directory that mmdebstrap works in.
const (
	partial = ".part"
	workDir = ".work"
)

func removePartial(dir string) error { return errors.Join(removeTree(dir), removeTree(dir+workDir)) }

// removePartialRoots removes what the making of a root left when it was killed, unless it is being made now.
func removePartialRoots() error {
	found, err := filepath.Glob(filepath.Join(cacheTop, "root-*"+partial))
	for _, dir := range found {
		f, lerr := tryLock(strings.TrimSuffix(dir, partial) + ".lock")
		if f == nil {
			err = errors.Join(err, lerr)
			continue
		}
		err = errors.Join(err, removePartial(dir))
		f.Close()
	}
	return err
}

// runQuietly runs the command and returns the end of what it wrote with its error. The command's parent-death signal
// is tied to a thread, which is therefore kept.
func runQuietly(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w:\n%s", filepath.Base(cmd.Path), err, lastLines(out.String(), 15))
	}
	return nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

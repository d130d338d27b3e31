package images

import (
	"bufio"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const suite = "trixie"

//go:embed files/prune.sh
var pruneScript string

// base is the Debian root in the cache: its tree, and the same as a layer.
type base struct {
	hash string
	dir  string // the tree
	tar  string // the layer, not compressed
}

func packages() []string {
	return []string{"busybox", "iproute2", "nginx", "postgresql", "procps", "redis-server", "util-linux"}
}

// debootstrapArgs are the arguments of mmdebstrap but for the target. The cluster that Debian would create is not wanted,
// and neither is anything that only a person at a terminal would read.
func debootstrapArgs() []string {
	args := []string{
		"--variant=essential", "--format=directory", "--mode=root",
		"--include=" + strings.Join(packages(), ","),
		`--aptopt=Apt::Install-Recommends "false"`,
		"--dpkgopt=force-confold",
		`--essential-hook=mkdir -p "$1/etc/postgresql-common"; echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"`,
	}
	for _, path := range []string{"doc", "man", "info", "locale", "lintian", "bash-completion"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+path+"/*")
	}
	return args
}

// ensureRoot returns the Debian root, making it if the cache has none from the same arguments.
func ensureRoot(ctx context.Context, cacheDir string, progress io.Writer) (base, error) {
	sum := sha256.Sum256([]byte(suite + "\x00" + strings.Join(debootstrapArgs(), "\x00") + pruneScript))
	hash := hex.EncodeToString(sum[:6])
	final := filepath.Join(cacheDir, "root-"+hash)
	b := base{hash: hash, dir: filepath.Join(final, "tree"), tar: filepath.Join(final, "layer.tar")}
	if _, err := os.Stat(final); err == nil {
		return b, nil
	}
	if err := ensureMmdebstrap(ctx, progress); err != nil {
		return base{}, err
	}
	work := filepath.Join(cacheDir, "unfinished-root-"+hash)
	if err := os.Mkdir(work, 0o755); err != nil {
		return base{}, fmt.Errorf("images: %w", err)
	}
	started := time.Now()
	report(progress, "making a Debian root with %s", strings.Join(packages(), ", "))
	args := append(debootstrapArgs(), suite, filepath.Join(work, "tree"))
	if err := run(ctx, progress, "mmdebstrap", args...); err != nil {
		return base{}, fmt.Errorf("images: make the Debian root: %w", err)
	}
	if err := run(ctx, progress, "sh", "-c", pruneScript, "prune", filepath.Join(work, "tree")); err != nil {
		return base{}, fmt.Errorf("images: prune the Debian root: %w", err)
	}
	size, err := writeTreeLayer(ctx, filepath.Join(work, "tree"), filepath.Join(work, "layer.tar"))
	if err != nil {
		return base{}, err
	}
	if err := os.Rename(work, final); err != nil {
		return base{}, fmt.Errorf("images: put the Debian root in place: %w", err)
	}
	report(progress, "made a Debian root of %d MB in %.0f s", size>>20, time.Since(started).Seconds())
	return b, nil
}

// ensureMmdebstrap installs mmdebstrap where it is missing.
func ensureMmdebstrap(ctx context.Context, progress io.Writer) error {
	if _, err := exec.LookPath("mmdebstrap"); err == nil {
		return nil
	}
	report(progress, "installing the Debian package mmdebstrap")
	install := []string{"-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends", "mmdebstrap"}
	if run(ctx, progress, "apt-get", install...) == nil {
		return nil
	}
	if err := run(ctx, progress, "apt-get", "update"); err != nil {
		return fmt.Errorf("images: update the package lists: %w", err)
	}
	if err := run(ctx, progress, "apt-get", install...); err != nil {
		return fmt.Errorf("images: install mmdebstrap: %w", err)
	}
	return nil
}

// run starts a program in a mount namespace and a process group of its own, so that neither a mount nor a process of it
// outlives it, and hands its output to progress line by line. The error holds the last lines.
func run(ctx context.Context, progress io.Writer, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Unshareflags: syscall.CLONE_NEWNS}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	tail := make(chan []string)
	go func() { tail <- relay(reader, progress) }()
	err := cmd.Run()
	_ = writer.Close()
	last := <-tail
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%s: %w", name, ctx.Err())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", name, err), errors.New(strings.Join(last, "\n")))
	}
	return nil
}

// relay copies lines and returns the last few.
func relay(from io.Reader, to io.Writer) []string {
	var last []string
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 64<<10), 4<<20)
	for lines.Scan() {
		_, _ = fmt.Fprintln(to, "  "+lines.Text())
		last = append(last, lines.Text())
		if len(last) > 15 {
			last = last[1:]
		}
	}
	_, _ = io.Copy(io.Discard, from)
	return last
}

func report(progress io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(progress, "images: "+format+"\n", args...)
}

package patch

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/patch/grub"
)

// Config is what a Host stands on.
type Config struct {
	// Dir is the directory that it keeps its things in.
	Dir string
	// Installer is the host's package manager; nil where it has none that is known.
	Installer Installer
	// Program is the command that is started, with a directory as its last argument, for work that outlives this program. It
	// must call RunJob.
	Program []string
	// Look tells what the host lacks, and asks its package sources for what is new first where refresh is set.
	Look func(ctx context.Context, refresh bool) (*drydockv1.HostStatus, error)
	// Users names the pods with processes that run code of the files of these paths.
	Users func(ctx context.Context, files []string) ([]string, error)
	// Pods names every pod of which something is on the host.
	Pods func(ctx context.Context) ([]string, error)
	// Containerd answers with its version.
	Containerd func(ctx context.Context) (string, error)
	// Settle is how long containerd may take to answer after a boot.
	Settle time.Duration
	// Probe dumps and restores a small pod, and returns why it could not; nil leaves it out.
	Probe func(ctx context.Context) []*drydockv1.Refusal
	// Simulated says that a reboot of the host changes no kernel.
	Simulated bool
	// RebootCommand reboots the host; empty: logind does.
	RebootCommand []string
	// Grub boots new kernels for a trial; nil: they are booted as the host has it.
	Grub *grub.GRUB
	// Boot is the host's boot id.
	Boot string
	// BootDir is where kernels lie, Run where /run is.
	BootDir, Run string
	Log          *slog.Logger
}

// Host patches the host that it runs on. It may be asked by several at once.
type Host struct {
	cfg Config
	// starting is held while work on packages is looked for and started.
	starting sync.Mutex
	// power is held while it is found out whether the host may go down.
	power     sync.Mutex
	inhibitor inhibitor
	// guarded: pods are here.
	guarded atomic.Bool
	// fell is why the last reboot did not come about.
	fell error
	down leaving
}

// New makes a Host, and its directory.
func New(cfg Config) (*Host, error) {
	return &Host{cfg: cfg}, os.MkdirAll(cfg.Dir, 0o700)
}

func (h *Host) files() string           { return filepath.Join(h.cfg.Dir, "files") }
func (h *Host) jobs() string            { return filepath.Join(h.cfg.Dir, "jobs") }
func (h *Host) lockPath() string        { return filepath.Join(h.cfg.Dir, "lock") }
func (h *Host) baselinePath() string    { return filepath.Join(h.cfg.Dir, "failed-units.json") }
func (h *Host) occupiedPath() string    { return filepath.Join(h.cfg.Dir, "occupied.json") }
func (h *Host) jobDir(id string) string { return filepath.Join(h.jobs(), dirName(id)) }

// underSystemd says whether systemd starts the host's services. Only there is a logind.
func (h *Host) underSystemd() bool {
	_, err := os.Stat(filepath.Join(h.cfg.Run, "systemd", "system"))
	return err == nil
}

// installer is the host's, or why there is none.
func (h *Host) installer() (Installer, error) {
	if h.cfg.Installer == nil {
		return nil, Refuse("patch it by hand, and leave it out of pools", "this host has no package manager that Drydock can patch with: apt and dnf 4 are")
	}
	return h.cfg.Installer, nil
}

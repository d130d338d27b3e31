// Package grub has GRUB boot a kernel once, for a trial. Whatever becomes of that boot, the one after it starts the default again,
// which stays what it was until Keep makes the kernel the default.
//
// It stands on GRUB's environment block, which GRUB itself clears of the trial before it starts the kernel: a power cut, a panic
// or a hang at any later moment leads back to the default. See "The GRUB environment block" in GRUB's manual.
package grub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"drydock/internal/durable"
)

// DropIn is the file that has GRUB start what is saved, and every kernel end a panic by a reset. Drydock's package brings it.
const DropIn = "/etc/default/grub.d/drydock.cfg"

// Unfit is why no trial can be made here. Without a remedy there is none: GRUB cannot forget a trial on this host.
type Unfit struct{ Reason, Remedy string }

func (u *Unfit) Error() string {
	if u.Remedy == "" {
		return u.Reason
	}
	return u.Reason + "; " + u.Remedy
}

// GRUB is the boot loader of a host.
type GRUB struct {
	// Dir is its directory, /boot/grub.
	Dir string
	// Run runs a command and returns what it wrote; nil: on this host.
	Run func(ctx context.Context, argv ...string) (string, error)
}

func (g *GRUB) config() string      { return filepath.Join(g.Dir, "grub.cfg") }
func (g *GRUB) environment() string { return filepath.Join(g.Dir, "grubenv") }

// Fit says whether a kernel can be tried here: *Unfit where it cannot.
func (g *GRUB) Fit(ctx context.Context) error {
	_, err := g.fit(ctx)
	return err
}

// fit returns GRUB's entries where they are of use for a trial.
func (g *GRUB) fit(ctx context.Context) ([]entry, error) {
	text, err := os.ReadFile(g.config())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Unfit{Reason: "the host is not booted by GRUB: there is no " + g.config()}
	}
	if err != nil {
		return nil, err
	}
	config := string(text)
	entries := parse(config)
	const remedy = "see that " + DropIn + " is in force, and run `update-grub` on the host"
	switch {
	case !strings.Contains(config, `set default="${next_entry}"`) || !strings.Contains(config, `set default="${saved_entry}"`):
		return nil, &Unfit{"GRUB does not start the entry that is saved: GRUB_DEFAULT is not `saved`", remedy}
	case len(entries) == 0:
		return nil, &Unfit{"GRUB has no entry for one certain kernel", remedy}
	case slices.ContainsFunc(entries, func(e entry) bool { return !e.endsPanics() }):
		return nil, &Unfit{"a kernel that panics would stand still for ever: its command line has no `panic=`", remedy}
	}
	return entries, g.forgets(ctx)
}

// forgets asks whether GRUB can write to its environment, and so forget a trial once it was begun.
func (g *GRUB) forgets(ctx context.Context) error {
	layers, err := g.run(ctx, "grub-probe", "--target=abstraction", g.Dir)
	if err != nil {
		return err
	}
	system, err := g.run(ctx, "grub-probe", "--target=fs", g.Dir)
	if err != nil {
		return err
	}
	layers, system = strings.Join(strings.Fields(layers), ", "), strings.TrimSpace(system)
	switch {
	case layers != "":
		return &Unfit{Reason: fmt.Sprintf("GRUB cannot write to %s, which lies on %s", g.Dir, layers)}
	case slices.Contains([]string{"btrfs", "zfs", "squash4", "tarfs"}, system):
		return &Unfit{Reason: fmt.Sprintf("GRUB cannot write to %s, which is %s", g.Dir, system)}
	}
	return nil
}

// Pin makes a kernel that is installed the default.
func (g *GRUB) Pin(ctx context.Context, release string) error {
	entries, err := g.fit(ctx)
	if err != nil {
		return err
	}
	path, err := find(entries, release)
	if err != nil {
		return err
	}
	return g.save(ctx, "saved_entry="+path)
}

// Try has the next boot start the kernel next, and every one after that the kernel fallback.
func (g *GRUB) Try(ctx context.Context, next, fallback string) error {
	entries, err := g.fit(ctx)
	if err != nil {
		return err
	}
	once, err := find(entries, next)
	if err != nil {
		return err
	}
	always, err := find(entries, fallback)
	if err != nil {
		return err
	}
	return g.save(ctx, "saved_entry="+always, "next_entry="+once)
}

// find is the path of a kernel's entry, through the menu that it is in.
func find(entries []entry, release string) (string, error) {
	i := slices.IndexFunc(entries, func(e entry) bool { return e.release == release })
	if i < 0 {
		return "", &Unfit{"GRUB has no entry for kernel " + release, "run `update-grub` on the host, and see that the kernel's package is installed"}
	}
	return entries[i].path, nil
}

// save writes all assignments at once: after a crash all hold or none.
func (g *GRUB) save(ctx context.Context, assignments ...string) error {
	if _, err := g.run(ctx, append([]string{"grub-editenv", g.environment(), "set"}, assignments...)...); err != nil {
		return err
	}
	file, err := os.Open(g.environment())
	if err != nil {
		return err
	}
	err = errors.Join(file.Sync(), file.Close())
	return errors.Join(err, durable.SyncDir(g.Dir))
}

func (g *GRUB) run(ctx context.Context, argv ...string) (string, error) {
	if g.Run != nil {
		return g.Run(ctx, argv...)
	}
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(failed.Stderr)))
		}
		return "", fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return string(out), nil
}

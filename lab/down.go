package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"drydock/internal/clictx"
	"drydock/internal/netdump"
	"github.com/vishvananda/netlink"
)

// Down removes the lab called name and all that it left on this machine, whatever state it is in. A lab of which
// nothing is left is down. It may be called again after it failed or was cut off.
func Down(ctx context.Context, name string) error {
	if os.Geteuid() != 0 {
		return errors.New("removing a lab needs root")
	}
	if !nameRule.MatchString(name) {
		return fmt.Errorf("lab name %q: use at most 20 lower-case letters, digits and hyphens", name)
	}
	l := &Lab{name: name}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return l.remove(ctx)
}

// remove removes all of the lab, its lock last.
func (l *Lab) remove(ctx context.Context) error {
	if err := errors.Join(l.tearDown(ctx), removePartialRoots()); err != nil {
		return err
	}
	return removeIfThere(lockFile(l.lockName()))
}

// tearDownLimit is for a machine that is very busy; what does not end in it does not end.
const tearDownLimit = 2 * time.Minute

// tearDown goes by what names a lab's things, and takes the record only as a help: Up may have died before writing it.
func (l *Lab) tearDown(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, tearDownLimit, errors.New("took too long"))
	defer cancel()
	if err := l.load(); err != nil {
		l.rec = record{}
	}
	if err := l.endProcesses(ctx); err != nil {
		return fmt.Errorf("lab %s: %w", l.name, err)
	}
	if err := l.removeContext(); err != nil {
		return fmt.Errorf("lab %s: %w", l.name, err)
	}
	if err := l.removeSwitch(); err != nil {
		return fmt.Errorf("lab %s: %w", l.name, err)
	}
	for _, dir := range []string{l.runDir(), l.stateDir()} {
		if err := unmountBelow(dir); err != nil {
			return fmt.Errorf("lab %s: %w", l.name, err)
		}
		if err := removeTree(dir); err != nil {
			return fmt.Errorf("lab %s: %w", l.name, err)
		}
	}
	return leaveMachine(ctx)
}

// endProcesses kills all processes of the lab and removes its cgroups. The recorded ones come first, as one that was
// moved to a cgroup of somebody else's is found only there.
func (l *Lab) endProcesses(ctx context.Context) error {
	nodes, err := os.ReadDir(filepath.Join(l.stateDir(), "hosts"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, n := range nodes {
		keeper, kerr := readProcess(l.keeperRecord(n.Name()))
		now, nerr := l.running(n.Name())
		if kerr == nil && keeper.alive() {
			err = errors.Join(err, ignoreDown(keeper.signal(9)))
		}
		if nerr == nil {
			err = errors.Join(err, ignoreDown(now.Init.signal(9)))
		}
	}
	if err := killGroup(ctx, l.group()); err != nil {
		return err
	}
	return removeGroup(ctx, l.group())
}

// removeContext takes the lab's context out of the file that Up wrote it to.
func (l *Lab) removeContext() error {
	path := l.rec.Contexts
	if path == "" {
		return nil // Up writes the record before the context
	}
	return clictx.Remove(path, l.contextName())
}

// removeSwitch removes the switch's links now: the kernel takes a namespace apart only some time after its last user.
func (l *Lab) removeSwitch() error {
	path := l.NetNS(switchNode)
	mounts, err := mountTable()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if m.point == path && m.fstype == "nsfs" {
			return withHandle(path, deleteLinks)
		}
	}
	return nil
}

func deleteLinks(h *netlink.Handle) error {
	links, err := netdump.Whole(h.LinkList)
	if err != nil {
		return fmt.Errorf("links of the switch: %w", err)
	}
	for _, link := range links {
		if kind := link.Type(); kind == "veth" || kind == "bridge" {
			if err := deleteLink(h, link.Attrs().Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func ignoreDown(err error) error {
	if errors.Is(err, ErrDown) {
		return nil
	}
	return err
}

package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hook is where CRIU asks whether it shall go on: in a restore after it has rebuilt every task of a container and before any
// of them has run an instruction, in a dump before it looks at any task. The asking is done by a shell script, so that it
// outlives the agent: the script leaves a mark and then reads the verdict from a FIFO, for as long as it takes.
type hook struct {
	dir string
	// log is the one of the CRIU that asks, in a restore.
	log string
}

// hookScript is CRIU's action script. It is run once for every stage, within the freeze, so it starts nothing. A dumping CRIU
// may have the real user of the container (see pods.Checkpoint); without -p the shell would become that user.
const hookScript = `#!/bin/sh -p
cd "${0%/*}" || exit 1
case $CRTOOLS_SCRIPT_ACTION in
pre-dump | post-restore)
	echo "$$ $PPID" >asked || exit 1
	while [ ! -e refused ]; do
		if read -r verdict <verdict && [ -n "$verdict" ]; then
			[ "$verdict" = commit ] && : >released
			exit
		fi
	done
	exit 1
	;;
post-resume)
	: >resumed
	;;
esac
exit 0
`

// newHook makes a container's hook in a directory of its own, or makes it anew for another attempt.
func newHook(dir string) (hook, error) {
	h := hook{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return h, err
	}
	for _, mark := range []string{"asked", "released", "resumed", "refused"} {
		if err := os.Remove(filepath.Join(dir, mark)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return h, err
		}
	}
	if err := os.WriteFile(h.script(), []byte(hookScript), 0o700); err != nil {
		return h, err
	}
	if err := unix.Mkfifo(h.fifo(), 0o600); err != nil && !errors.Is(err, syscall.EEXIST) {
		return h, fmt.Errorf("make %s: %w", h.fifo(), err)
	}
	return h, nil
}

func (h hook) script() string { return filepath.Join(h.dir, "action") }
func (h hook) fifo() string   { return filepath.Join(h.dir, "verdict") }

// waiting tells whether CRIU stands in the hook now: in a restore every task is rebuilt and none has run, in a dump none has
// been touched.
func (h hook) waiting() bool {
	pids := h.pids()
	return len(pids) == 2 && alive(pids[0]) && alive(pids[1])
}

// asking tells whether the script stands in the hook, with its CRIU or without.
func (h hook) asking() bool {
	pids := h.pids()
	if len(pids) != 2 || !alive(pids[0]) {
		return false
	}
	at, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pids[0]), "cwd"))
	dir, derr := os.Stat(h.dir)
	return err == nil && derr == nil && os.SameFile(at, dir) // else another process has its number since
}

// resumed tells whether CRIU has let the tasks go.
func (h hook) resumed() bool {
	_, err := os.Stat(filepath.Join(h.dir, "resumed"))
	return err == nil
}

// released tells whether CRIU has been let go on.
func (h hook) released() bool {
	return exists(filepath.Join(h.dir, "released")) || h.resumed()
}

// mayHaveRun tells whether a task may have run. A CRIU that was let go on still runs the hooks of others; what it does next
// is to unlock the network, which it writes to its log, and only then does it touch the tasks. From there on they may run,
// also when it is killed before it says so: what it traces goes on when it ends.
func (h hook) mayHaveRun() bool {
	if !h.released() {
		return false
	}
	said, err := os.ReadFile(h.log)
	inHooks := err == nil && bytes.Contains(said, []byte("Running post-restore scripts"))
	return h.resumed() || !inHooks || bytes.Contains(said, []byte("Unlock network"))
}

// working tells whether the CRIU that asked is still there.
func (h hook) working() bool {
	pids := h.pids()
	return len(pids) == 2 && alive(pids[1])
}

// driven tells whether runc still drives the CRIU that asked. containerd's shim kills runc when containerd ends: such a CRIU
// would let the tasks run, but containerd would never learn that they do.
func (h hook) driven() bool {
	pids := h.pids()
	if len(pids) != 2 {
		return false
	}
	parent, err := strconv.Atoi(statField(pids[1], parentField))
	if err != nil {
		return false
	}
	comm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(parent), "comm"))
	return err == nil && strings.HasPrefix(string(comm), "runc")
}

func (h hook) pids() []int {
	data, err := os.ReadFile(filepath.Join(h.dir, "asked"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, field := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

const (
	commitVerdict = "commit\n"
	abortVerdict  = "abort\n"
)

// answer lets CRIU go on, or makes it give up and undo what it has done. Without a CRIU that waits a commit does nothing; a
// refusal also holds for a CRIU that asks later, until the hook is made anew.
func (h hook) answer(ctx context.Context, commit bool) error {
	verdict, there := commitVerdict, h.waiting
	var merr error
	if !commit {
		// Also a script whose CRIU is gone is to end.
		verdict, there = abortVerdict, h.asking
		merr = os.WriteFile(filepath.Join(h.dir, "refused"), nil, 0o600)
		if errors.Is(merr, fs.ErrNotExist) {
			merr = nil
		}
	}
	fifo, err := h.reachWhile(ctx, there)
	if fifo == nil || err != nil {
		return errors.Join(merr, err)
	}
	_, err = fifo.WriteString(verdict)
	return errors.Join(merr, err, fifo.Close())
}

// reach opens the FIFO that a CRIU which waits reads its verdict from; nil without one that does.
func (h hook) reach(ctx context.Context) (*os.File, error) { return h.reachWhile(ctx, h.waiting) }

func (h hook) reachWhile(ctx context.Context, there func() bool) (*os.File, error) {
	for there() {
		fifo, err := os.OpenFile(h.fifo(), os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil || !errors.Is(err, syscall.ENXIO) {
			return fifo, err
		}
		// The script has left its mark and is about to open the FIFO.
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Microsecond):
		}
	}
	return nil, nil
}

func alive(pid int) bool {
	state := statField(pid, stateField)
	return state != "" && state != "Z"
}

// Fields of a process's stat, counted behind its name.
const (
	stateField = iota
	parentField
)

// statField is empty where there is no such process.
func statField(pid, n int) string {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if len(fields) <= n {
		return ""
	}
	return fields[n]
}

package migrate

import (
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
type hook struct{ dir string }

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
	h := hook{dir}
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

// resumed tells whether CRIU has let the tasks go.
func (h hook) resumed() bool {
	_, err := os.Stat(filepath.Join(h.dir, "resumed"))
	return err == nil
}

// released tells whether CRIU has been let go on. From then on tasks may run, also when it is killed before it says so: what
// it traces goes on when it ends.
func (h hook) released() bool {
	return exists(filepath.Join(h.dir, "released")) || h.resumed()
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
	verdict := commitVerdict
	if !commit {
		verdict = abortVerdict
		if err := os.WriteFile(filepath.Join(h.dir, "refused"), nil, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	fifo, err := h.reach(ctx)
	if fifo == nil || err != nil {
		return err
	}
	_, err = fifo.WriteString(verdict)
	return errors.Join(err, fifo.Close())
}

// reach opens the FIFO that a CRIU which waits reads its verdict from; nil without one that does.
func (h hook) reach(ctx context.Context) (*os.File, error) {
	for h.waiting() {
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

package dnf

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
	"time"

	"drydock/patch/turn"

	"golang.org/x/sys/unix"
)

// paths are where dnf and rpm have their things.
type paths struct {
	// installing are the locks of those that install, downloading of those that fetch packages or lists.
	installing, downloading []string
}

const pathsScript = `
json.dump({"cache": base.conf.cachedir, "persist": base.conf.persistdir, "rpm": rpm.expandMacro("%{_dbpath}")}, sys.stdout)
`

func (d *Dnf) paths(ctx context.Context) (paths, error) {
	var found struct{ Cache, Persist, Rpm string }
	if err := d.Ask(ctx, pathsScript, nil, &found); err != nil {
		return paths{}, err
	}
	return paths{
		installing:  []string{filepath.Join(found.Persist, "rpmdb_lock.pid"), filepath.Join("/", d.Root, found.Rpm, ".rpm.lock")},
		downloading: []string{filepath.Join(found.Cache, "download_lock.pid"), filepath.Join(found.Cache, "metadata_lock.pid")},
	}, nil
}

// turn waits until nobody holds one of the locks, and tells who does.
func (d *Dnf) turn(ctx context.Context, locks []string, tell func(activity string)) error {
	return turn.Await(ctx, d.Patience, func() (string, error) { return holder(locks) }, tell)
}

// holder says who holds one of the locks. dnf's are files with the number of a process, which holds them while it lives; rpm's is
// a lock of the kernel's.
func holder(locks []string) (string, error) {
	for _, path := range locks {
		if !strings.HasSuffix(path, ".pid") {
			if who, err := turn.Locked(path); who != "" || err != nil {
				return who, err
			}
			continue
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
		if err != nil {
			continue // it is just being written
		}
		since, lives := started(pid)
		if stat, err := os.Stat(path); err == nil && lives && since.After(stat.ModTime().Add(time.Second)) {
			// Whoever wrote it was killed, and another process has its number now: dnf would wait for that one's end.
			if err := os.Remove(path); err != nil {
				return "", err
			}
			continue
		}
		if lives {
			return turn.Holds(pid, path), nil
		}
	}
	return "", nil
}

// started is when a process was, to within a hundredth of a second; false where there is none.
func started(pid int) (time.Time, bool) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(line[bytes.LastIndexByte(line, ')')+1:])) // the name may hold anything
	if err != nil || len(fields) < 20 {
		return time.Time{}, false
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64) // field 22 in proc(5), since the boot
	var up unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
		return time.Time{}, false
	}
	const second = 100 // ticks, the same on every machine
	return time.Now().Add(-time.Duration(up.Nano())).Add(time.Duration(ticks) * time.Second / second), true
}

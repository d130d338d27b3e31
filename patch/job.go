package patch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/durable"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// order is what a job is to do. It is written once, before the job is first started.
type order struct {
	ID        string          `json:"id"`
	Manager   string          `json:"manager"`
	Conffiles string          `json:"conffiles"`
	Patch     json.RawMessage `json:"patch"`
	Begun     time.Time       `json:"begun"`
}

// state is how far a job is, as it says itself.
type state struct {
	Percent  int32  `json:"percent"`
	Activity string `json:"activity"`
	// Result is set at the end.
	Result json.RawMessage `json:"result,omitempty"`
}

// job is the work on one patch, in a directory.
type job struct {
	dir   string
	order order
	patch *drydockv1.Patch
}

// Files in a job's directory. The two snapshots and the log are for people, too.
const (
	orderFile  = "order.json"
	stateFile  = "state.json"
	logFile    = "log"
	beforeFile = "before"
	afterFile  = "after"
)

// dirName is the name of the directory of a job; empty for an id that cannot be one.
func dirName(id string) string {
	name := url.PathEscape(id)
	if len(name) > 200 || strings.HasPrefix(name, ".") {
		return ""
	}
	return name
}

func newJob(dir string, o order, patch *drydockv1.Patch) (*job, error) {
	var err error
	if o.Patch, err = protojson.Marshal(patch); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return nil, err
	}
	return &job{dir: dir, order: o, patch: patch}, durable.Replace(filepath.Join(dir, orderFile), data, 0o600)
}

// loadJob reads a job; the error is fs.ErrNotExist where there is none.
func loadJob(dir string) (*job, error) {
	j := &job{dir: dir, patch: &drydockv1.Patch{}}
	data, err := os.ReadFile(filepath.Join(dir, orderFile))
	if err == nil {
		err = json.Unmarshal(data, &j.order)
	}
	if err == nil {
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(j.order.Patch, j.patch)
	}
	if err != nil {
		return nil, fmt.Errorf("work on packages in %s: %w", dir, err)
	}
	return j, nil
}

// state is what the job said last, and its result, nil where it has not ended.
func (j *job) state() (state, *drydockv1.PatchResult, error) {
	var s state
	data, err := os.ReadFile(filepath.Join(j.dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil || s.Result == nil {
		return s, nil, err
	}
	result := &drydockv1.PatchResult{}
	err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(s.Result, result)
	return s, result, err
}

func (j *job) say(s state) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return durable.Replace(filepath.Join(j.dir, stateFile), data, 0o600)
}

// lockedBy is the id of the job that is at work, empty where none is.
func lockedBy(path string) (string, error) {
	lock, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer lock.Close()
	held := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_GETLK, &held); err != nil {
		return "", fmt.Errorf("lock %s: %w", path, err)
	}
	if held.Type == unix.F_UNLCK {
		return "", nil
	}
	id, err := os.ReadFile(path)
	if len(id) == 0 && err == nil {
		return "?", nil // it has just taken the lock
	}
	return string(id), err
}

// take makes this program the one that works on packages; false where another is. The lock ends with the program, and is not
// handed to what it starts.
func take(path, id string) (release func(), taken bool, err error) {
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		lock.Close()
		return nil, false, nil
	}
	err = errors.Join(lock.Truncate(0), writeAt(lock, id))
	return func() { lock.Close() }, true, err
}

func writeAt(file *os.File, text string) error {
	_, err := file.WriteAt([]byte(text), 0)
	return err
}

// RunJob does the work that lies in a directory, unless another program is at it. It is what Config.Program calls. What becomes
// of the work is written down there; the error is of what keeps that from being done.
func RunJob(ctx context.Context, dir string, installer func(manager string) (Installer, error)) error {
	j, err := loadJob(dir)
	if err != nil {
		return err
	}
	release, taken, err := take(filepath.Join(filepath.Dir(filepath.Dir(dir)), "lock"), j.order.ID)
	if err != nil || !taken {
		return err
	}
	defer release()
	if _, result, err := j.state(); err != nil || result != nil {
		return err
	}
	if err := j.say(state{Activity: "begins"}); err != nil {
		return err
	}
	with, err := installer(j.order.Manager)
	if err == nil {
		err = j.work(ctx, with)
	}
	return j.end(err)
}

// work installs, between two snapshots.
func (j *job) work(ctx context.Context, with Installer) error {
	before, err := j.snapshot(ctx, with, beforeFile)
	if err != nil {
		return err
	}
	told := state{}
	tell := func(percent int32, activity string) {
		if now := (state{Percent: percent, Activity: activity}); now.Percent != told.Percent || now.Activity != told.Activity {
			told = now
			_ = j.say(now) // what is not told is told with the next
		}
	}
	err = with.Install(ctx, Work{
		Patch: j.patch, Files: filepath.Join(filepath.Dir(filepath.Dir(j.dir)), "files"), Conffiles: j.order.Conffiles,
		Dir: j.dir, Log: filepath.Join(j.dir, logFile), Before: before, Tell: tell,
	})
	_, serr := j.snapshot(ctx, with, afterFile)
	return errors.Join(err, serr)
}

// snapshot writes the state of all packages down. That from before the work stays as it was when the work was first begun.
func (j *job) snapshot(ctx context.Context, with Installer, name string) ([]byte, error) {
	path := filepath.Join(j.dir, name)
	if data, err := os.ReadFile(path); err == nil && name == beforeFile {
		return data, nil
	}
	data, err := with.Snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("state of the packages: %w", err)
	}
	return data, durable.Replace(path, data, 0o600)
}

// end writes the result down. Package files that are no longer needed go before it: whoever sees the result sees them gone.
func (j *job) end(failed error) error {
	result := &drydockv1.PatchResult{
		Id: j.order.ID, Done: failed == nil, Before: j.existing(beforeFile), After: j.existing(afterFile),
		Started: timestamppb.New(j.order.Begun), Ended: timestamppb.Now(), Log: tail(filepath.Join(j.dir, logFile)),
	}
	var refused *Refused
	switch {
	case failed == nil:
		if err := os.RemoveAll(filepath.Join(filepath.Dir(filepath.Dir(j.dir)), "files")); err != nil {
			return err
		}
	case errors.As(failed, &refused):
		result.Refusals = refused.Reasons
	default:
		result.Refusals = []*drydockv1.Refusal{Refusal("see "+filepath.Join(j.dir, logFile)+" on the host", "%v", failed)}
	}
	data, err := protojson.Marshal(result)
	if err != nil {
		return err
	}
	s := state{Percent: 100, Activity: "done", Result: data}
	if failed != nil {
		s.Activity = "failed"
	}
	return j.say(s)
}

func (j *job) existing(name string) string {
	path := filepath.Join(j.dir, name)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

const (
	tailLines = 40
	tailBytes = 16 << 10
)

// tail is the last lines of a file.
func tail(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	var data []byte
	if stat, err := file.Stat(); err == nil {
		data = make([]byte, min(stat.Size(), tailBytes))
		n, _ := file.ReadAt(data, stat.Size()-int64(len(data)))
		data = data[:n]
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.ToValidUTF8(bytes.Join(lines[max(0, len(lines)-tailLines):], []byte("\n")), []byte("?")))
}

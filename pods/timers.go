package pods

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/siginfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/timer"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// Timers go on while a container is frozen. CRIU reads a process's pending signals first and its timers later, with all of
// its memory in between; a timer that goes off once, in that time, has left neither a signal nor a time to go in the
// images, and the process would wait for ever. But it has left a signal with the process, which is still there and frozen
// when CRIU is done. So a timer that is over in the images, and whose signal is pending now but not in the images, is set
// to go off at once.
//
// Which thread a timer tells is put right too.

// RecoverTimers puts right what the images of a container that was dumped, and is still frozen, say of timers that went
// off while CRIU dumped it.
func (r *Runtime) RecoverTimers(pod, container, images string) error {
	pids, err := cgroupAt(r.containerCgroup(pod, container)).pids()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := recoverTimers(pid, images); err != nil {
			return fmt.Errorf("timers of process %d in container %s of pod %s: %w", pid, container, pod, err)
		}
	}
	return nil
}

func recoverTimers(pid int, images string) error {
	threads, err := pendingNow(pid)
	if err != nil {
		return err
	}
	leader, found := threads[pid]
	if !found {
		return nil
	}
	// A kernel without this file cannot have its timers dumped.
	text, err := os.ReadFile(procPath(pid, "timers"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	told, err := threadsTold(string(text))
	if err != nil {
		return err
	}
	return leader.recoverTimers(threads, told, images)
}

// threadsTold reads which thread each timer of a process tells, of those that tell one, by the timer's number. The threads have
// the numbers that they have here.
func threadsTold(timers string) (map[uint32]int, error) {
	told := make(map[uint32]int)
	var id uint64
	for line := range strings.Lines(timers) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		var err error
		switch key {
		case "ID":
			id, err = strconv.ParseUint(value, 10, 32)
		case "notify":
			if _, number, one := strings.Cut(value, "/tid."); one {
				told[uint32(id)], err = strconv.Atoi(number)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("timers: %w", err)
		}
	}
	return told, nil
}

// recoverTimers puts the timers of a process right, whose leader l is. told are the threads that its timers tell: CRIU 4.2
// writes a number of nobody where that is the leader, and the kernel would refuse the timer in the restore (CRIU's issue 2887).
func (l thread) recoverTimers(threads map[int]thread, told map[uint32]int, images string) error {
	path := coreImage(images, l.inside)
	image, err := readCore(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a zombie that has no timers
	}
	timers := image.entry.GetTc().GetTimers()
	if err != nil || timers == nil {
		return err
	}
	came, changed := l.shared&^queued(image.entry.Tc.SignalsS), false
	if timers.Real != nil && over(timers.Real) && came.has(unix.SIGALRM) {
		timers.Real.Vusec, changed = proto.Uint64(1), true
	}
	for _, t := range timers.Posix {
		if inside := threads[told[t.GetItId()]].inside; t.GetItSigevNotify() == notifyThread && inside != 0 && t.GetNotifyThreadId() != int32(inside) {
			t.NotifyThreadId, changed = proto.Int32(int32(inside)), true
		}
		wentOff, err := l.wentOff(t, image.entry, threads, images)
		if err != nil {
			return err
		}
		if wentOff {
			t.Vnsec, changed = proto.Uint64(1), true
		}
	}
	if !changed {
		return nil
	}
	return image.write(path)
}

// Ways in which a timer tells that it is over.
const (
	notifySignal = 0
	notifyThread = 4
)

// wentOff tells whether a timer's signal came between CRIU's looks at the signals and at the timer.
func (l thread) wentOff(t *timer.PosixTimerEntry, dumped *core.CoreEntry, threads map[int]thread, images string) (bool, error) {
	if t.GetIsec() != 0 || t.GetInsec() != 0 || t.GetVsec() != 0 || t.GetVnsec() != 0 {
		return false, nil
	}
	signal := unix.Signal(t.GetSiSigno())
	switch t.GetItSigevNotify() {
	case notifySignal:
		return (l.shared &^ queued(dumped.Tc.SignalsS)).has(signal), nil
	case notifyThread:
		for _, one := range threads {
			if one.inside != int(t.GetNotifyThreadId()) || !one.private.has(signal) {
				continue
			}
			image, err := readCore(coreImage(images, one.inside))
			if err != nil {
				return false, err
			}
			return !queued(image.entry.GetThreadCore().GetSignalsP()).has(signal), nil
		}
	}
	return false, nil
}

func over(t *timer.ItimerEntry) bool {
	return t.GetIsec() == 0 && t.GetIusec() == 0 && t.GetVsec() == 0 && t.GetVusec() == 0
}

// signals is a set as the kernel shows it.
type signals uint64

func (s signals) has(signal unix.Signal) bool { return signal > 0 && s>>(signal-1)&1 == 1 }

// queued are the signals in a queue of an image: the number is the first thing in each siginfo.
func queued(queue *siginfo.SignalQueueEntry) signals {
	var all signals
	for _, entry := range queue.GetSignals() {
		if info := entry.GetSiginfo(); len(info) >= 4 {
			all |= 1 << (binary.NativeEndian.Uint32(info) - 1)
		}
	}
	return all
}

// thread is one of a process, with the signals that wait for it alone and for all of its process.
type thread struct {
	inside          int // its number in the container
	private, shared signals
}

// pendingNow looks at all threads of a process, by the numbers that they have here.
func pendingNow(pid int) (map[int]thread, error) {
	dirs, err := os.ReadDir(procPath(pid, "task"))
	if err != nil {
		return nil, err
	}
	threads := make(map[int]thread)
	for _, dir := range dirs {
		tid, err := strconv.Atoi(dir.Name())
		if err != nil {
			return nil, err
		}
		status, err := os.ReadFile(procPath(pid, "task", dir.Name(), "status"))
		if err != nil {
			return nil, err
		}
		if threads[tid], err = parseThread(string(status)); err != nil {
			return nil, fmt.Errorf("status of thread %d: %w", tid, err)
		}
	}
	return threads, nil
}

func parseThread(status string) (thread, error) {
	var t thread
	for line := range strings.Lines(status) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		last := fields[len(fields)-1]
		var err error
		switch fields[0] {
		case "NSpid:":
			t.inside, err = strconv.Atoi(last)
		case "SigPnd:":
			t.private, err = parseSignals(last)
		case "ShdPnd:":
			t.shared, err = parseSignals(last)
		}
		if err != nil {
			return t, err
		}
	}
	return t, nil
}

func parseSignals(text string) (signals, error) {
	set, err := strconv.ParseUint(text, 16, 64)
	return signals(set), err
}

func coreImage(images string, inside int) string {
	return filepath.Join(images, fmt.Sprintf("core-%d.img", inside))
}

// coreFile is an image of one thread: two magic numbers, the size of the entry, and the entry.
type coreFile struct {
	magic []byte
	entry *core.CoreEntry
}

const magicSize, sizeSize = 8, 4

func readCore(path string) (coreFile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return coreFile{}, err
	}
	if len(data) < magicSize+sizeSize || int(binary.LittleEndian.Uint32(data[magicSize:])) != len(data)-magicSize-sizeSize {
		return coreFile{}, fmt.Errorf("image %s is not whole", path)
	}
	f := coreFile{data[:magicSize], new(core.CoreEntry)}
	if err := proto.Unmarshal(data[magicSize+sizeSize:], f.entry); err != nil {
		return coreFile{}, fmt.Errorf("image %s: %w", path, err)
	}
	return f, nil
}

// write replaces an image. What this program does not know of in it stays.
func (f coreFile) write(path string) error {
	entry, err := proto.Marshal(f.entry)
	if err != nil {
		return fmt.Errorf("image %s: %w", path, err)
	}
	data := binary.LittleEndian.AppendUint32(append([]byte(nil), f.magic...), uint32(len(entry)))
	return os.WriteFile(path, append(data, entry...), 0o600)
}

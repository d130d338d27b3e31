package pods

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/siginfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/timer"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"golang.org/x/sys/unix"
)

// The leader of the process is thread 500 here and 1 inside, and another thread is 501 here and 2 inside.
const (
	leaderHere  = 500
	workerHere  = 501
	workerTimer = unix.Signal(40)
)

func queue(numbers ...unix.Signal) *siginfo.SignalQueueEntry {
	q := new(siginfo.SignalQueueEntry)
	for _, n := range numbers {
		info := make([]byte, 128)
		binary.NativeEndian.PutUint32(info, uint32(n))
		q.Signals = append(q.Signals, &siginfo.SiginfoEntry{Siginfo: info})
	}
	return q
}

func itimer(left uint64) *timer.ItimerEntry {
	return &timer.ItimerEntry{Isec: proto.Uint64(0), Iusec: proto.Uint64(0), Vsec: proto.Uint64(0), Vusec: proto.Uint64(left)}
}

func posix(signal unix.Signal, notify uint32, left uint64) *timer.PosixTimerEntry {
	return &timer.PosixTimerEntry{
		ItId: proto.Uint32(0), ClockId: proto.Uint32(1), SiSigno: proto.Uint32(uint32(signal)), ItSigevNotify: proto.Uint32(notify),
		SivalPtr: proto.Uint64(0), Overrun: proto.Uint32(0), Isec: proto.Uint64(0), Insec: proto.Uint64(0),
		Vsec: proto.Uint64(0), Vnsec: proto.Uint64(left), NotifyThreadId: proto.Int32(2),
	}
}

// dumped writes the images of both threads, as CRIU would.
func dumped(t *testing.T, real *timer.ItimerEntry, one *timer.PosixTimerEntry, shared, private *siginfo.SignalQueueEntry) string {
	t.Helper()
	dir := t.TempDir()
	leader := &core.CoreEntry{Mtype: core.CoreEntry_X86_64.Enum(), Tc: &core.TaskCoreEntry{
		TaskState: proto.Uint32(1), ExitCode: proto.Uint32(0), Personality: proto.Uint32(0), Flags: proto.Uint32(0),
		BlkSigset: proto.Uint64(0), Comm: proto.String("program"), SignalsS: shared,
		Timers: &timer.TaskTimersEntry{Real: real, Virt: itimer(0), Prof: itimer(0), Posix: []*timer.PosixTimerEntry{one}},
	}}
	// A field that only a later CRIU knows.
	leader.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 900, protowire.VarintType), 7))
	worker := &core.CoreEntry{Mtype: core.CoreEntry_X86_64.Enum(), ThreadCore: &core.ThreadCoreEntry{
		FutexRla: proto.Uint64(0), FutexRlaLen: proto.Uint32(0), SignalsP: private,
	}}
	for inside, entry := range map[int]*core.CoreEntry{1: leader, 2: worker} {
		if err := (coreFile{[]byte("12345678"), entry}).write(coreImage(dir, inside)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func set(numbers ...unix.Signal) signals {
	var s signals
	for _, n := range numbers {
		s |= 1 << (n - 1)
	}
	return s
}

func TestATimerThatWentOffWhileCRIUDumpedGoesOffAfterTheRestore(t *testing.T) {
	for _, c := range []struct {
		name             string
		real             *timer.ItimerEntry
		posix            *timer.PosixTimerEntry
		shared, private  *siginfo.SignalQueueEntry
		now, nowPrivate  signals
		wantReal, wantIt uint64
	}{
		{"nothing went off", itimer(0), posix(workerTimer, notifyThread, 0), queue(), queue(), 0, 0, 0, 0},
		{"interval timer", itimer(0), posix(workerTimer, notifyThread, 0), queue(), queue(), set(unix.SIGALRM), 0, 1, 0},
		{"interval timer that CRIU saw", itimer(0), posix(workerTimer, notifyThread, 0), queue(unix.SIGALRM), queue(), set(unix.SIGALRM), 0, 0, 0},
		{"interval timer that went off later", itimer(9), posix(workerTimer, notifyThread, 0), queue(), queue(), set(unix.SIGALRM), 0, 9, 0},
		{"timer of a thread", itimer(0), posix(workerTimer, notifyThread, 0), queue(), queue(), 0, set(workerTimer), 0, 1},
		{"timer of a thread that CRIU saw", itimer(0), posix(workerTimer, notifyThread, 0), queue(), queue(workerTimer), 0, set(workerTimer), 0, 0},
		{"timer of the process", itimer(0), posix(unix.SIGUSR1, notifySignal, 0), queue(unix.SIGUSR2), queue(), set(unix.SIGUSR1, unix.SIGUSR2), 0, 0, 1},
		{"timer that tells nobody", itimer(0), posix(unix.SIGUSR1, 1, 0), queue(), queue(), set(unix.SIGUSR1), 0, 0, 0},
		{"timer that has time to go", itimer(0), posix(workerTimer, notifyThread, 7), queue(), queue(), 0, set(workerTimer), 0, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := dumped(t, c.real, c.posix, c.shared, c.private)
			threads := map[int]thread{leaderHere: {inside: 1, shared: c.now}, workerHere: {inside: 2, shared: c.now, private: c.nowPrivate}}
			if err := threads[leaderHere].recoverTimers(threads, map[uint32]int{0: workerHere}, dir); err != nil {
				t.Fatal(err)
			}
			image, err := readCore(coreImage(dir, 1))
			if err != nil {
				t.Fatal(err)
			}
			timers := image.entry.Tc.Timers
			if got := timers.Real.GetVusec(); got != c.wantReal {
				t.Errorf("the interval timer has %d to go, want %d", got, c.wantReal)
			}
			if got := timers.Posix[0].GetVnsec(); got != c.wantIt {
				t.Errorf("the timer has %d to go, want %d", got, c.wantIt)
			}
			if len(image.entry.ProtoReflect().GetUnknown()) == 0 {
				t.Error("what a later CRIU wrote is gone")
			}
			raw, err := os.ReadFile(coreImage(dir, 1))
			if err != nil || !bytes.HasPrefix(raw, []byte("12345678")) {
				t.Errorf("the image begins with %q: %v", raw[:8], err)
			}
		})
	}
}

func TestATimerTellsTheThreadThatItToldBefore(t *testing.T) {
	one := posix(workerTimer, notifyThread, 7)
	one.NotifyThreadId = proto.Int32(-282857328)
	dir := dumped(t, itimer(0), one, queue(), queue())
	threads := map[int]thread{leaderHere: {inside: 1}, workerHere: {inside: 2}}
	told, err := threadsTold(fmt.Sprintf("ID: 0\nsignal: 34/0000000000000bb9\nnotify: signal/tid.%d\nClockID: 1\nID: 7\nsignal: 14/0\nnotify: signal/pid.%[1]d\nClockID: 0\n", leaderHere))
	if diff := cmp.Diff(map[uint32]int{0: leaderHere}, told); err != nil || diff != "" {
		t.Fatalf("-want +got:\n%s%v", diff, err)
	}
	if err := threads[leaderHere].recoverTimers(threads, told, dir); err != nil {
		t.Fatal(err)
	}
	image, err := readCore(coreImage(dir, 1))
	if err != nil {
		t.Fatal(err)
	}
	if got := image.entry.Tc.Timers.Posix[0].GetNotifyThreadId(); got != 1 {
		t.Errorf("it tells thread %d", got)
	}
}

func TestPendingSignalsAreReadFromAThreadsStatus(t *testing.T) {
	got, err := parseThread("Name:\tredis\nNSpid:\t500\t77\t12\nSigPnd:\t0000008000000000\nShdPnd:\t0000000000002000\n")
	if want := (thread{inside: 12, private: set(workerTimer), shared: set(unix.SIGALRM)}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestOwnThreadsHaveTheirNumbers(t *testing.T) {
	threads, err := pendingNow(os.Getpid())
	if err != nil || threads[os.Getpid()].inside == 0 {
		t.Errorf("got %v, %v", threads, err)
	}
}

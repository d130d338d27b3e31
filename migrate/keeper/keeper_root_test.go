//go:build root

package keeper

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// actAs names, in the environment of a run of this test program, that it is a daemon that does what it is told.
const actAs = "KEEPER_ACT_AS_DAEMON"

func TestMain(m *testing.M) {
	if os.Getenv(actAs) != "" {
		os.Exit(act())
	}
	os.Exit(m.Run())
}

// act opens, closes and renumbers userfaultfds as its input says, and answers each line.
func act() int {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var what string
		var fd, to int
		_, _ = fmt.Sscan(lines.Text(), &what, &fd, &to)
		var err error
		switch what {
		case "open":
			var uffd uintptr
			var errno unix.Errno
			if uffd, _, errno = unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0); errno != 0 {
				err = errno
				break
			}
			err = moveTo(int(uffd), fd)
		case "file":
			var file int
			if file, err = unix.Open("/dev/null", unix.O_RDONLY, 0); err == nil {
				err = moveTo(file, fd)
			}
		case "move":
			err = moveTo(fd, to)
		case "close":
			err = unix.Close(fd)
		}
		fmt.Println(err)
	}
	return 0
}

func moveTo(from, to int) error {
	if err := unix.Dup3(from, to, unix.O_CLOEXEC); err != nil {
		return err
	}
	return unix.Close(from)
}

// daemon is a process whose userfaultfds are kept.
type daemon struct {
	t     *testing.T
	pid   int
	pidfd int
	in    io.Writer
	out   *bufio.Scanner
}

func startDaemon(t *testing.T) *daemon {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), actAs+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Close(pidfd)
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &daemon{t, cmd.Process.Pid, pidfd, in, bufio.NewScanner(out)}
}

func (d *daemon) do(orders ...string) {
	d.t.Helper()
	for _, order := range orders {
		if _, err := io.WriteString(d.in, order+"\n"); err != nil {
			d.t.Fatal(err)
		}
		if !d.out.Scan() || d.out.Text() != "<nil>" {
			d.t.Fatalf("%s: %q", order, d.out.Text())
		}
	}
}

func TestAKeeperHoldsWhatItsDaemonHasWhateverItsNumber(t *testing.T) {
	for name, c := range map[string]struct {
		then []string
		held int
	}{
		"nothing happens":                        {nil, 2},
		"one is closed":                          {[]string{"close 100"}, 1},
		"a number is used again":                 {[]string{"close 100", "open 100"}, 2},
		"a number is used again by another file": {[]string{"close 100", "file 100"}, 1},
		"one gets another number":                {[]string{"move 100 102"}, 2},
		"two change places":                      {[]string{"move 100 102", "move 101 100", "move 102 101"}, 2},
		"one more is opened":                     {[]string{"open 103"}, 3},
		"all are closed":                         {[]string{"close 100", "close 101"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := startDaemon(t)
			d.do("open 100", "open 101")
			k := &keeper{held: make(map[int]int)}
			defer func() {
				for ours := range k.held {
					_ = unix.Close(ours)
				}
			}()
			if grown, err := k.duplicate(d.pid, d.pidfd); err != nil || !grown || !Holds(os.Getpid(), d.pid) {
				t.Fatalf("at first: %v, %v", grown, err)
			}
			d.do(c.then...)
			if strings.Contains(strings.Join(c.then, " "), "open") && Holds(os.Getpid(), d.pid) {
				t.Error("a userfaultfd that was opened just now counts as held")
			}
			if _, err := k.duplicate(d.pid, d.pidfd); err != nil {
				t.Fatal(err)
			}
			if len(k.held) != c.held || len(Userfaultfds(os.Getpid())) != c.held {
				t.Errorf("%d are held, %d open", len(k.held), len(Userfaultfds(os.Getpid())))
			}
			if Holds(os.Getpid(), d.pid) != (c.held > 0) {
				t.Errorf("not all that the daemon has is held: %v for %v", k.held, Userfaultfds(d.pid))
			}
			for ours, theirs := range k.held {
				if is, err := same(d.pid, theirs, os.Getpid(), ours); !is || err != nil {
					t.Errorf("ours %d is not the daemon's %d: %v", ours, theirs, err)
				}
			}
		})
	}
}

func TestADaemonThatIsKilledLosesNoUserfaultfdOfItsTasks(t *testing.T) {
	d := startDaemon(t)
	d.do("open 100")
	k := &keeper{held: make(map[int]int)}
	if _, err := k.duplicate(d.pid, d.pidfd); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(d.pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if _, err := k.duplicate(d.pid, d.pidfd); err != nil {
			t.Fatal(err)
		}
	}
	if len(k.held) != 1 {
		t.Errorf("%d are held", len(k.held))
	}
	for ours := range k.held {
		if !isUserfaultfd("/proc/self/fd/" + strconv.Itoa(ours)) {
			t.Error("what is held is no userfaultfd")
		}
		_ = unix.Close(ours)
	}
}

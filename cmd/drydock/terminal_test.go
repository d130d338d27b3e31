package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/console"
	"golang.org/x/term"
)

// newTerminal returns the two ends of a terminal of 24 rows and 80 columns.
func newTerminal(t *testing.T) (ours console.Console, theirs *os.File) {
	t.Helper()
	ours, path, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		theirs.Close()
		ours.Close()
	})
	if err := ours.Resize(console.WinSize{Height: 24, Width: 80}); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// afterLine hands on what is written to it, and does something once a line was.
type afterLine struct {
	bytes.Buffer
	line string
	do   func()
}

func (a *afterLine) Write(p []byte) (int, error) {
	n, err := a.Buffer.Write(p)
	if a.do != nil && strings.Contains(a.String(), a.line) {
		do := a.do
		a.do = nil
		do()
	}
	return n, err
}

func TestExecPassesStdinOnUntilItsEnd(t *testing.T) {
	newPool(t)
	r := runAt(t.Context(), strings.NewReader("one\ntwo\n"), "pod", "exec", "-i", "redis", "cat")
	if r.status != 0 || r.stdout != "one\ntwo\n" {
		t.Errorf("%+v", r)
	}
}

func TestExecWithoutInteractiveReadsNoStdin(t *testing.T) {
	newPool(t)
	r := runAt(t.Context(), strings.NewReader("one\n"), "pod", "exec", "redis", "cat")
	if r.status != 0 || r.stdout != "" {
		t.Errorf("%+v", r)
	}
}

func TestExecPassesSignalsOnAndEndsWithTheCommandsStatus(t *testing.T) {
	newPool(t)
	stdout := &afterLine{line: "ready\n", do: func() { syscall.Kill(os.Getpid(), syscall.SIGTERM) }}
	a := &app{stdin: strings.NewReader(""), stdout: stdout, stderr: io.Discard, now: theTime}
	if status := runContext(t.Context(), a, []string{"pod", "exec", "redis", "events"}); status != 100+int(syscall.SIGTERM) {
		t.Errorf("exit status %d", status)
	}
}

func TestExecWithATerminalIsRawAndFollowsItsSize(t *testing.T) {
	p := newPool(t)
	ours, theirs := newTerminal(t)
	before, err := term.GetState(int(theirs.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	// A Ctrl-C is a byte to a raw terminal. The echoed one asks for a new size, and that for a signal.
	stdout := &afterLine{line: "ready\n", do: func() { ours.Write([]byte("\x03")) }}
	resized := &afterLine{line: "\x03", do: func() {
		ours.Resize(console.WinSize{Height: 50, Width: 132})
		syscall.Kill(os.Getpid(), syscall.SIGWINCH)
	}}
	ended := &afterLine{line: "resize 50x132\n", do: func() { syscall.Kill(os.Getpid(), syscall.SIGUSR1) }}
	a := &app{stdin: theirs, stdout: io.MultiWriter(stdout, resized, ended), stderr: io.Discard, now: theTime}
	if status := runContext(t.Context(), a, []string{"pod", "exec", "-it", "redis", "events"}); status != 100+int(syscall.SIGUSR1) {
		t.Errorf("exit status %d", status)
	}
	if asked := strings.Join(p.controller.asked(), ""); !strings.Contains(asked, `"tty":true,"rows":24,"columns":80`) {
		t.Errorf("asked %s", asked)
	}
	after, err := term.GetState(int(theirs.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("the terminal is left raw")
	}
}

func TestProgressOnATerminalIsABar(t *testing.T) {
	newPool(t)
	ours, theirs := newTerminal(t)
	shown := make(chan string)
	go func() {
		data, _ := io.ReadAll(ours) // ends with EIO when the other end is closed
		shown <- string(data)
	}()
	var stdout bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &stdout, stderr: theirs, now: theTime}
	if status := runContext(t.Context(), a, []string{"migrate", "redis", "--to", "h2"}); status != 0 {
		t.Errorf("exit status %d", status)
	}
	theirs.Close()
	text := <-shown
	for _, part := range []string{"redis", "[", "dump (6/10)", "3.0 MiB", "4 tasks"} {
		if !strings.Contains(text, part) {
			t.Errorf("the bar lacks %q: %q", part, text)
		}
	}
	if !strings.Contains(stdout.String(), "committed") {
		t.Errorf("no report: %s", stdout.String())
	}
}

func TestALargeArchiveArrivesWhole(t *testing.T) {
	p := newPool(t)
	path := filepath.Join(p.dir, "large.tar")
	write(t, path, "archive"+strings.Repeat("x", 3*importChunk))
	r := p.run(t, "image", "import", path)
	wants(t, r, statusDone, "import, 1.0 MiB of 3.0 MiB", "import, 3.0 MiB of 3.0 MiB")
	if !strings.Contains(r.stdout, "3.0 MiB") {
		t.Error(r.stdout)
	}
}

func TestABackupReplacesAFileOnlyWhenItIsWhole(t *testing.T) {
	p := newPool(t)
	path := filepath.Join(p.dir, "backups", "store")
	write(t, path, "old")
	p.controller.empty = true
	wants(t, p.run(t, "store", "backup", path), statusFailed)
	for _, want := range []string{"old", "snapshot"} {
		data, err := os.ReadFile(path)
		if err != nil || string(data) != want {
			t.Errorf("%q, not %q; %v", data, want, err)
		}
		p.controller.empty = false
		wants(t, p.run(t, "store", "backup", path), statusDone)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestABackupIsRestoredIntoAnEmptyDirectoryOnly(t *testing.T) {
	home := newHome(t)
	backup := filepath.Join(home, "backup")
	write(t, backup, "no snapshot")
	r := runAt(t.Context(), nil, "store", "restore", backup, "--data-dir", filepath.Join(home, "data"))
	wants(t, r, statusFailed, "drydock: store restore: ")
	wants(t, runAt(t.Context(), nil, "store", "restore", backup), statusMisuse, "needs --data-dir DIR")
	var asked []string
	restore := func(backup, dataDir string, _ *slog.Logger) error {
		asked = append(asked, backup, dataDir)
		return nil
	}
	var stdout bytes.Buffer
	a := &app{stdout: &stdout, stderr: io.Discard, now: theTime}
	newRootCommand(a)
	cmd := newStoreRestore(a, restore)
	cmd.SetArgs([]string{"b", "--data-dir", "d"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	if strings.Join(asked, " ") != "b d" || stdout.String() != "restored b into d; start the controller there\n" {
		t.Errorf("%v %s", asked, stdout.String())
	}
}

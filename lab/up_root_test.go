//go:build root

package lab

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"drydock/internal/clictx"
)

// standInController leaves and listens to what a lab waits for.
func standInController() error {
	admin := "/var/lib/drydock/controller/admin"
	if err := os.MkdirAll(admin, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"ca.crt", "admin.crt", "admin.key"} {
		if err := os.WriteFile(filepath.Join(admin, name), nil, 0o600); err != nil {
			return err
		}
	}
	ln, err := net.Listen("unix", "/run/drydock-api/controller.sock")
	for err == nil {
		var c net.Conn
		if c, err = ln.Accept(); err == nil {
			c.Close()
		}
	}
	return err
}

func withController(o Options) Options {
	o.ControllerServices = []Service{{Name: "controller", Argv: []string{"/usr/bin/drydock"}, Env: []string{"LABTEST_CONTROLLER=1"}}}
	return o
}

func TestUpJoinsEveryHostAndMakesTheLabCurrentUntilItIsDown(t *testing.T) {
	const name = "lt-join"
	contexts := filepath.Join(t.TempDir(), "contexts.yaml")
	t.Setenv("DRYDOCK_CONTEXTS", contexts)
	opts := withController(testOptions(name, 2, nil))
	opts.Join = func(_ context.Context, l *Lab, host string) (string, error) {
		if !accepts(l.Socket()) {
			return "", errors.New("the controller does not listen")
		}
		return "token-of-" + host, nil
	}
	var asked []string
	opts.WaitReady = func(_ context.Context, _ *Lab, hosts []string) error {
		asked = hosts
		return nil
	}
	l, err := Up(testContext(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Down(context.Background(), name) })
	for _, host := range l.Hosts() {
		if got := mustRun(t, l, host, "cat", "/etc/drydock/token"); got != "token-of-"+host {
			t.Errorf("token of %s is %q", host, got)
		}
	}
	if !slices.Equal(asked, []string{"h1", "h2"}) {
		t.Errorf("asked whether %v are ready", asked)
	}
	file, err := clictx.Load(contexts)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := file.Current(""); err != nil || got != l.Context() {
		t.Errorf("current context is %+v, %v", got, err)
	}
	if err := Down(testContext(t), name); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, name)
	if _, err := os.Stat(contexts); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the context is left: %v", err)
	}
}

func TestAnUpThatFailsRemovesWhatItMade(t *testing.T) {
	const name = "lt-fail"
	t.Setenv("DRYDOCK_CONTEXTS", filepath.Join(t.TempDir(), "contexts.yaml"))
	opts := withController(testOptions(name, 2, nil))
	broken := errors.New("no tokens today")
	opts.Join = func(context.Context, *Lab, string) (string, error) { return "", broken }
	if _, err := Up(testContext(t), opts); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	nothingLeft(t, name)
}

func TestAnUpThatIsCancelledRemovesWhatItMade(t *testing.T) {
	const name = "lt-cancel"
	t.Setenv("DRYDOCK_CONTEXTS", filepath.Join(t.TempDir(), "contexts.yaml"))
	ctx, cancel := context.WithCancel(testContext(t))
	opts := testOptions(name, 2, nil)
	opts.WaitReady = func(ctx context.Context, _ *Lab, _ []string) error {
		cancel()
		return context.Cause(ctx)
	}
	if _, err := Up(ctx, opts); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	nothingLeft(t, name)
}

func TestDownFindsEverythingAfterTheKeepersWereKilledAndTheRecordsLost(t *testing.T) {
	l := bringUp(t, "lt-lost")
	for _, node := range l.nodes() {
		keeper, err := readProcess(l.keeperRecord(node))
		if err != nil {
			t.Fatal(err)
		}
		if err := keeper.signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeTree(l.stateDir()); err != nil {
		t.Fatal(err)
	}
	names, err := List()
	if err != nil || !slices.Contains(names, "lt-lost") {
		t.Errorf("labs are %v, %v", names, err)
	}
}

func TestUpCleansALabThatIsHalfDead(t *testing.T) {
	l := bringUp(t, "lt-half")
	if err := l.KillHost(testContext(t), "h2"); err != nil {
		t.Fatal(err)
	}
	var progress bytes.Buffer
	if _, err := Up(testContext(t), testOptions("lt-half", 1, &progress)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(progress.String(), "removing what is left") {
		t.Errorf("it said\n%s", progress.String())
	}
}

func TestACommandInAHostEndsWithItsContext(t *testing.T) {
	l := bringUp(t, "lt-exec")
	for _, node := range []string{"h1", ClientNode} {
		ctx, cancel := context.WithCancel(testContext(t))
		cmd := l.Exec(ctx, node, "sh", "-c", "echo started; exec sleep 1002")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		readUntil(out, "started")
		if err := waitFor(testContext(t), "its start", func() bool {
			return strings.Contains(labProcesses(t, "lt-exec"), `"sleep\x001002\x00"`)
		}); err != nil {
			t.Errorf("on %s: %v", node, err)
		}
		cancel()
		_ = cmd.Wait()
		if err := waitFor(testContext(t), "its end", func() bool {
			return !strings.Contains(labProcesses(t, "lt-exec"), `"sleep\x001002\x00"`)
		}); err != nil {
			t.Errorf("on %s: %v", node, err)
		}
	}
}

func TestRemovingATreeStopsAtAMount(t *testing.T) {
	top := t.TempDir()
	outside := filepath.Join(top, "outside")
	tree := filepath.Join(top, "tree")
	for _, dir := range []string{outside, filepath.Join(tree, "in", "mount")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(outside, filepath.Join(tree, "in", "mount"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := removeTree(tree); err == nil {
		t.Error("no error")
	}
	if err := unmountBelow(tree); err != nil {
		t.Fatal(err)
	}
	if err := removeTree(tree); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(outside, "precious")); err != nil {
		t.Error(err)
	}
}

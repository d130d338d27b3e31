//go:build root

package lab

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// bringUpBehind makes a lab whose hosts lack what its own archive has.
func bringUpBehind(t *testing.T, name string) *Lab {
	t.Helper()
	t.Setenv("DRYDOCK_CONTEXTS", filepath.Join(t.TempDir(), "contexts.yaml"))
	var progress bytes.Buffer
	opts := testOptions(name, 2, &progress)
	opts.Updates = Updates{Own: true}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // two roots may have to be made
	defer cancel()
	l, err := Up(ctx, opts)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	t.Cleanup(func() {
		if err := Down(context.Background(), name); err != nil {
			t.Error(err)
		}
		nothingLeft(t, name)
	})
	return l
}

// mirrorAddress is one of the machine's own, which no host reaches.
const mirrorAddress = "127.77.0.80"

// mirrorOnTheMachine serves the lab's own archive there, and counts what is asked for.
func mirrorOnTheMachine(t *testing.T, l *Lab) (asked func(part string) int) {
	t.Helper()
	listener, err := net.Listen("tcp", mirrorAddress+":80") // the proxy asks mirrors at no other port
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var paths []string
	files := http.FileServer(http.Dir(l.RepositoryDir()))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		paths = append(paths, r.URL.Path)
		mu.Unlock()
		files.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return func(part string) (count int) {
		mu.Lock()
		defer mu.Unlock()
		for _, path := range paths {
			if strings.Contains(path, part) {
				count++
			}
		}
		return count
	}
}

func TestHostsFetchPackagesOnceThroughTheProxyAndReachNothingElse(t *testing.T) {
	l := bringUpBehind(t, "lt-proxy")
	asked := mirrorOnTheMachine(t, l)
	if got := mustRun(t, l, "h1", "ip", "route", "show", "default"); got != "" {
		t.Errorf("h1 has a way out: %s", got)
	}
	if out, err := l.Exec(testContext(t), "h1", "bash", "-c", "exec 3<>/dev/tcp/"+mirrorAddress+"/80").CombinedOutput(); err == nil {
		t.Errorf("h1 reaches the machine's %s: %s", mirrorAddress, out)
	}
	source := "deb [signed-by=" + ownKey + "] http://" + mirrorAddress + " " + ownSuite + " main\n"
	for _, host := range l.Hosts() {
		root, err := l.Root(host)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "etc/apt/sources.list"), []byte(source), 0o644); err != nil {
			t.Fatal(err)
		}
		mustRun(t, l, host, "apt-get", "update", "-qq", "-o", "APT::Update::Error-Mode=any")
		mustRun(t, l, host, "apt-get", "install", "-qq", "--download-only", "iputils-ping")
	}
	if got := asked("/pool/iputils-ping"); got != 1 {
		t.Errorf("the package file was fetched %d times for two hosts", got)
	}
}

func TestHostsLackWhatTheLabsOwnArchiveHasUntilTheyInstallIt(t *testing.T) {
	l := bringUpBehind(t, "lt-behind")
	version := func(name string) string { return mustRun(t, l, "h1", "dpkg-query", "-W", "-f", "${Version}", name) }
	older := map[string]string{}
	for _, name := range ownPackages() {
		older[name] = version(name)
	}
	mustRun(t, l, "h1", "apt-get", "update", "-qq", "-o", "APT::Update::Error-Mode=any")
	mustRun(t, l, "h1", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "upgrade", "-qq")
	for name, before := range older {
		if got := version(name); got != before+ownSuffix {
			t.Errorf("%s is %s, and was %s", name, got, before)
		}
	}
	mustRun(t, l, "h1", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qq", "--allow-downgrades", "iputils-ping="+older["iputils-ping"])
	if got := version("iputils-ping"); got != older["iputils-ping"] {
		t.Errorf("the older build cannot be had back: %s", got)
	}
}

func TestAnArchiveThatWasTamperedWithIsTurnedDownByAHost(t *testing.T) {
	l := bringUpBehind(t, "lt-tamper")
	release := filepath.Join(l.RepositoryDir(), "dists", ownSuite, "InRelease")
	text, err := os.ReadFile(release)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(release, bytes.Replace(text, []byte("Components: main"), []byte("Components: niam"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := l.Exec(testContext(t), "h1", "apt-get", "update", "-o", "APT::Update::Error-Mode=any").CombinedOutput()
	if err == nil {
		t.Errorf("it was taken:\n%s", out)
	}
}

func TestTheProxyServesAgainAfterItsNodeWasKilled(t *testing.T) {
	l := bringUpBehind(t, "lt-reproxy")
	if err := l.KillHost(testContext(t), PackagesNode); err != nil {
		t.Fatal(err)
	}
	if out, err := l.Exec(testContext(t), "h1", "apt-get", "update", "-o", "APT::Update::Error-Mode=any").CombinedOutput(); err == nil {
		t.Errorf("packages are there without the proxy:\n%s", out)
	}
	if err := l.StartHost(testContext(t), PackagesNode); err != nil {
		t.Fatal(err)
	}
	// The proxy takes as long to start as the machine is busy.
	ctx := testContext(t)
	for {
		out, err := l.Exec(ctx, "h1", "apt-get", "update", "-o", "APT::Update::Error-Mode=any", "-o", "Acquire::Retries=5").CombinedOutput()
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

func TestAHostRebootsWhenAProgramInItRunsItsRebootCommand(t *testing.T) {
	l := bringUp(t, "lt-rebooting")
	before, err := l.running("h1")
	if err != nil {
		t.Fatal(err)
	}
	kept := mustRun(t, l, "h1", "sh", "-c", "echo kept > /etc/kept; touch /run/gone; cat /etc/machine-id")
	start := mustRun(t, l, "h1", "cut", "-d ", "-f22", "/proc/1/stat")
	// A boot's end may cut the command off before it can tell how it went.
	_ = l.Exec(testContext(t), "h1", rebootCommand()...).Run()
	if err := waitFor(testContext(t), "another boot", func() bool {
		now, err := l.running("h1")
		return err == nil && now.Ready && now.Boot != before.Boot
	}); err != nil {
		t.Fatal(err)
	}
	if got := mustRun(t, l, "h1", "cat", "/etc/machine-id"); got != kept {
		t.Errorf("the machine id was %s and is %s", kept, got)
	}
	if got := mustRun(t, l, "h1", "cat", "/etc/kept"); got != "kept" {
		t.Errorf("the disk holds %q", got)
	}
	if got := mustRun(t, l, "h1", "sh", "-c", "ls /run/gone 2>/dev/null || echo gone"); got != "gone" {
		t.Errorf("/run is the old one: %s", got)
	}
	if got := mustRun(t, l, "h1", "cut", "-d ", "-f22", "/proc/1/stat"); got == start {
		t.Error("the first process began when the old boot's did")
	}
	if before.Init.alive() {
		t.Error("the old boot's init lives")
	}
}

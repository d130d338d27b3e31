//go:build root

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"

	"drydock/lab"
	"drydock/lab/load"
	"drydock/pods/sidecar"
	"drydock/shim/schema/schematest"
)

const greeterV1 = `
syntax = "proto3";
package greet.v1;
message Greeting { string name = 1; int64 count = 2; }
service Greeter { rpc Greet(Greeting) returns (Greeting); }`

const greeterV2 = `
syntax = "proto3";
package greet.v2;
message Greeting { string name = 3; string count = 4; }
service Greeter { rpc Say(Greeting) returns (Greeting); }`

// runGreeter runs a server of version 2, and returns its address and its service's record.
func runGreeter(t *testing.T, name string) (address, record string) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "greeter")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./testdata/greeter")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	img, err := sidecar.NewImage(program)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := os.Create(filepath.Join(dir, "greeter.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(img.Write(archive, "greeter"), archive.Close()); err != nil {
		t.Fatal(err)
	}
	do(t, "image", "import", archive.Name(), "--as", "greeter")
	runPod(t, name, "--image", "greeter", "--host", "h1", "-e", "GODEBUG=multipathtcp=0", "--", ":8080")
	prefix, err := netip.ParsePrefix(pod(t, name).Spec.Addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("testdata/greeter.yaml")
	if err != nil {
		t.Fatal(err)
	}
	record = filepath.Join(dir, "greeter.yaml")
	for name, data := range map[string][]byte{
		"greeter.yaml": data, "greeter-v1.binpb": schematest.Set(t, greeterV1), "greeter-v2.binpb": schematest.Set(t, greeterV2),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return net.JoinHostPort(prefix.Addr().String(), "8080"), record
}

// caller calls again and again over one connection, until it is stopped.
type caller struct {
	name  string
	calls atomic.Int64
	conns atomic.Int64
	stop  context.CancelFunc
	ended chan struct{}

	mu     sync.Mutex
	failed []string
	open   []net.Conn
}

// dial counts connections that are made.
func (c *caller) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c.conns.Add(1)
	conn, err := load.Dialer{Netns: shared.NetNS(lab.ClientNode)}.DialContext(ctx, network, address)
	if err == nil {
		c.mu.Lock()
		c.open = append(c.open, conn)
		c.mu.Unlock()
	}
	return conn, err
}

// hangUp closes the connections.
func (c *caller) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.open {
		_ = conn.Close() // it may be closed already
	}
}

// begin calls until the test stops it. A call has a minute: it may wait for a move.
func begin(t *testing.T, name string, connect func(*caller) func(context.Context) error) *caller {
	t.Helper()
	c := &caller{name: name, ended: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = sync.OnceFunc(func() { cancel(); <-c.ended; c.hangUp() })
	t.Cleanup(c.stop)
	call := connect(c)
	go func() {
		defer close(c.ended)
		for ctx.Err() == nil {
			// No context that ends with the call: net/http may close a connection whose context ends just after the answer.
			if err := call(context.Background()); err != nil {
				c.mu.Lock()
				c.failed = append(c.failed, err.Error())
				c.mu.Unlock()
			}
			c.calls.Add(1)
			time.Sleep(2 * time.Millisecond)
		}
	}()
	c.more(t)
	return c
}

// more waits for calls that begin from now on.
func (c *caller) more(t *testing.T) {
	t.Helper()
	before := c.calls.Load()
	until(t, "calls of "+c.name, func() bool { return c.calls.Load() > before+20 })
}

// unbroken looks that no call has failed, and that there was one connection for all.
func (c *caller) unbroken(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.failed) > 0 || c.conns.Load() != 1 {
		t.Errorf("%s: %d of %d calls failed, over %d connections: %v", c.name, len(c.failed), c.calls.Load(), c.conns.Load(), slices.Compact(c.failed))
	}
}

// overHTTP calls with a version's body.
func overHTTP(address, version, body string, two bool) func(*caller) func(context.Context) error {
	return func(c *caller) func(context.Context) error {
		var transport http.RoundTripper = &keptAlive{dial: c.dial}
		if two {
			protocols := new(http.Protocols)
			protocols.SetUnencryptedHTTP2(true)
			transport = &http.Transport{DialContext: c.dial, Protocols: protocols, MaxConnsPerHost: 1, ResponseHeaderTimeout: time.Minute}
		}
		return func(ctx context.Context) error { return greetOnce(ctx, transport, address, version, body) }
	}
}

// keptAlive is HTTP/1.1 over one connection, for as long as the other side keeps it. net/http gives a connection up where it has
// not seen 50 ms after the answer that the call is written, which a busy machine brings about.
type keptAlive struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	conn net.Conn
	in   *bufio.Reader
}

func (k *keptAlive) RoundTrip(r *http.Request) (*http.Response, error) {
	if k.conn == nil {
		conn, err := k.dial(r.Context(), "tcp", r.URL.Host)
		if err != nil {
			return nil, err
		}
		k.conn, k.in = conn, bufio.NewReader(conn)
	}
	err := errors.Join(k.conn.SetDeadline(time.Now().Add(time.Minute)), r.Write(k.conn))
	var res *http.Response
	if err == nil {
		res, err = http.ReadResponse(k.in, r)
	}
	if err != nil || res.Close {
		k.conn = nil
	}
	return res, err
}

func greetOnce(ctx context.Context, transport http.RoundTripper, address, version, body string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/greet", strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header = http.Header{"X-Greeter-Version": {version}, "Content-Type": {"application/json"}}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	var said struct{ Text string }
	if err := json.Unmarshal(data, &said); err != nil || said.Text != "Hello, Ada" {
		return fmt.Errorf("status %d: %s", res.StatusCode, data)
	}
	return nil
}

type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte{}, data...)
	return nil
}
func (rawCodec) Name() string { return "proto" }

// overGRPC calls as version 1 does, whose messages have other numbers and another type.
func overGRPC(t *testing.T, address string) func(*caller) func(context.Context) error {
	return func(c *caller) func(context.Context) error {
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return c.dial(ctx, "tcp", address) }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		message := protowire.AppendVarint(protowire.AppendTag(protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "Ada"), 2, protowire.VarintType), 7)
		return func(ctx context.Context) error {
			var answer []byte
			if err := conn.Invoke(ctx, "/greet.v1.Greeter/Greet", &message, &answer, grpc.ForceCodec(rawCodec{}), grpc.WaitForReady(true)); err != nil {
				return err
			}
			if string(answer) != string(message) {
				return fmt.Errorf("the answer is %x, not %x", answer, message)
			}
			return nil
		}
	}
}

const (
	helloV1 = `{"name":"Ada"}`
	helloV2 = `{"first":"Ada","language":"en"}`
)

// shimState is what `drydock shim show` says.
type shimState struct {
	State, Host, Generation, Connections, Draining, Interception string
}

func stateOfShim(t *testing.T, pod string) shimState {
	t.Helper()
	var s shimState
	if err := json.Unmarshal([]byte(do(t, "shim", "show", pod, "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestClientsOfAnOldVersionTalkToANewServerWhileItsPodMovesAndItsShimChanges(t *testing.T) {
	address, record := runGreeter(t, "greeter")
	direct := begin(t, "a v2 client from before the shim", overHTTP(address, "v2", helloV2, false))
	do(t, "pod", "shim", "greeter", "--record", record, "--version", "v2", "--port", "8080")
	callers := []*caller{
		direct,
		begin(t, "v1 over HTTP/1.1", overHTTP(address, "v1", helloV1, false)), begin(t, "v1 over HTTP/2", overHTTP(address, "v1", helloV1, true)),
		begin(t, "v1 over gRPC", overGRPC(t, address)), begin(t, "v2", overHTTP(address, "v2", helloV2, false)),
	}
	step := func(what string) {
		t.Helper()
		for _, c := range callers {
			c.more(t)
			c.unbroken(t)
		}
		t.Logf("%s: %+v", what, stateOfShim(t, "greeter"))
	}
	step("added")
	move(t, "greeter", "h2")
	step("moved")
	text, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record, append(text, []byte("# changed\n")...), 0o600); err != nil {
		t.Fatal(err)
	}
	do(t, "pod", "shim", "greeter", "--record", record, "--version", "v2", "--port", "8080")
	if got := stateOfShim(t, "greeter"); got.Generation != "2" || got.State != "serving" {
		t.Errorf("after the change: %+v", got)
	}
	step("changed")
	do(t, "pod", "shim", "greeter", "--record", record, "--version", "v2", "--port", "8080", "--renew")
	callers = append(callers, begin(t, "v1 of the new process", overHTTP(address, "v1", helloV1, false)))
	if got := stateOfShim(t, "greeter"); got.Draining == "0" || got.Connections == "0" {
		t.Errorf("after the new process: %+v", got)
	}
	step("renewed")
	move(t, "greeter", "h1")
	step("moved back")
	leave(t, address, callers)
}

// leave takes the shim away while calls go on, and looks that it goes with the last connection.
func leave(t *testing.T, address string, callers []*caller) {
	t.Helper()
	do(t, "pod", "shim", "greeter", "--off")
	if got := stateOfShim(t, "greeter"); got.State != "leaving" || got.Interception != "" {
		t.Errorf("when taken away: %+v", got)
	}
	fresh := &caller{}
	transport := &http.Transport{DialContext: fresh.dial}
	if err := greetOnce(t.Context(), transport, address, "v1", helloV1); err == nil || !strings.Contains(err.Error(), "this is not of version 2") {
		t.Errorf("a new connection of a v1 client: %v", err)
	}
	transport.CloseIdleConnections()
	for _, c := range callers {
		c.more(t)
		c.unbroken(t)
	}
	for _, c := range callers[1:] {
		c.stop()
	}
	until(t, "the shim's end", func() bool { return len(pod(t, "greeter").Containers) == 1 })
	if got := stateOfShim(t, "greeter"); got.State != "none" {
		t.Errorf("in the end: %+v", got)
	}
	callers[0].more(t)
	callers[0].unbroken(t)
}

func TestAShimThatIsKilledServesAgain(t *testing.T) {
	address, record := runGreeter(t, "phoenix")
	do(t, "pod", "shim", "phoenix", "--record", record, "--version", "v2", "--port", "8080")
	call := func() error {
		c := &caller{}
		transport := &http.Transport{DialContext: c.dial, DisableKeepAlives: true}
		return greetOnce(t.Context(), transport, address, "v1", helloV1)
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}
	containers := pod(t, "phoenix").Containers
	init, err := shared.InitPID("h1")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("nsenter", "-t", fmt.Sprint(init), "-p", "-m", "--", "/bin/kill", "-9", fmt.Sprint(containers[1].Pid)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	until(t, "the shim's return", func() bool { return call() == nil })
}

func TestWrongShimsAreRefusedAndChangeNothing(t *testing.T) {
	_, record := runGreeter(t, "refusing")
	for name, test := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"no version":      {[]string{"--record", record, "--port", "8080"}, 2, "give --port"},
		"unknown version": {[]string{"--record", record, "--version", "v9", "--port", "8080"}, 3, `the record of service greeter has no version "v9"`},
		"no record":       {[]string{"--version", "v2", "--port", "8080"}, 2, "give --record FILE, or --off"},
	} {
		if got := try(t, append([]string{"pod", "shim", "refusing"}, test.args...)...); got.status != test.status || !strings.Contains(got.err, test.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := pod(t, "refusing"); got.Spec.Shim != nil || len(got.Containers) != 1 {
		t.Errorf("the pod has %v, %v", got.Spec.Shim, got.Containers)
	}
}

package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"drydock/internal/strictyaml"
	"drydock/shim/proxy"
)

// greeters has two versions: v1 takes a name, v2 takes first.
const greeters = `service: greeter
client: {header: X-Greeter-Version, ports: {7001: v1, 7002: v2}, default: v1}
versions: [v1, v2]
pairs:
  - between: [v1, v2]
    up:
      otherwise: refuse
      rules: [{name: greet, match: {method: [POST], path: /greet}, request: [{rename: {from: name, to: first}}]}]
    down:
      otherwise: refuse
      rules: [{name: greet, match: {method: [POST], path: /greet}, request: [{rename: {from: first, to: name}}]}]
    transform: none
    schedule: none
    disallowed: [{version: v1, match: {path: /shout}, reason: v2 does not shout}]
    examples:
      - name: a greeting
        old: {request: {method: POST, path: /greet, body: {name: Ada}}, reply: {status: 200, body: {text: Hello}}}
        new: {request: {method: POST, path: /greet, body: {first: Ada}}, reply: {status: 200, body: {text: Hello}}}
`

// greeter answers with the field that its version has, and refuses any other.
func greeter(t *testing.T, field string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		want := `{"` + field + `":"`
		if err != nil || !strings.HasPrefix(string(data), want) {
			http.Error(w, fmt.Sprintf("expected %s, got %s, %v", want, data, err), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"text":"Hello"}`)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// shimFiles are a shim's files; configure writes them.
type shimFiles struct {
	dir, config, control string
	// ports are where clients of both versions connect, beside a third one where the header counts.
	addresses [3]string
}

func newFiles(t *testing.T) *shimFiles {
	t.Helper()
	dir, err := os.MkdirTemp("", "shim-") // short enough for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := &shimFiles{dir: dir, config: filepath.Join(dir, "shim.yaml"), control: filepath.Join(dir, "run", "greeter.sock")}
	for i := range f.addresses {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // only once all are chosen, so that they differ
		f.addresses[i] = l.Addr().String()
	}
	f.write(t, "greeter.yaml", greeters)
	return f
}

func (f *shimFiles) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (f *shimFiles) configure(t *testing.T, server, version string) {
	t.Helper()
	f.write(t, "shim.yaml", fmt.Sprintf(`record: greeter.yaml
server: {address: '%s', version: %s}
listen:
  - {address: '%s', port: 7001}
  - {address: '%s', port: 7002}
  - {address: '%s'}
control: %s
grace: 5s
`, server, version, f.addresses[0], f.addresses[1], f.addresses[2], f.control))
}

// shim runs one until the test ends, or until it ends by itself.
type shim struct {
	*Process
	ended chan error
	stop  func()
}

func run(t *testing.T, f *shimFiles) *shim {
	t.Helper()
	p, err := start(t.Context(), f.config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &shim{p, make(chan error, 1), cancel}
	go func() {
		select {
		case <-ctx.Done():
			s.ended <- p.stop()
		case <-p.retired:
			s.ended <- p.drain(ctx)
		}
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-s.ended; err != nil {
			t.Errorf("the shim ended with %v", err)
		}
		s.ended <- nil
	})
	return s
}

// greet is one call; version is told by the header where it is not empty.
func greet(t *testing.T, client *http.Client, address, version, field string) string {
	t.Helper()
	r, err := http.NewRequest("POST", "http://"+address+"/greet", strings.NewReader(`{"`+field+`":"Ada"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if version != "" {
		r.Header.Set("X-Greeter-Version", version)
	}
	answer, err := client.Do(r)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	return fmt.Sprintf("%d %s%v", answer.StatusCode, data, map[bool]string{false: "", true: " " + fmt.Sprint(err)}[err != nil])
}

const greeted = `200 {"text":"Hello"}`

func newClient(t *testing.T) *http.Client {
	c := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func TestAReloadUnderLoadFailsNoCallAndDropsNoConnection(t *testing.T) {
	f := newFiles(t)
	servers := []string{greeter(t, "name"), greeter(t, "first")}
	f.configure(t, servers[0], "v1")
	s := run(t, f)
	stop := make(chan struct{})
	var calls, connections atomic.Int64
	var clients sync.WaitGroup
	for i, field := range []string{"name", "first"} {
		clients.Go(func() {
			client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				connections.Add(1)
				return new(net.Dialer).DialContext(ctx, network, address)
			}}}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got := greet(t, client, f.addresses[2], fmt.Sprintf("v%d", i+1), field); got != greeted {
					t.Errorf("v%d: %s", i+1, got)
					return
				}
				calls.Add(1)
			}
		})
	}
	for i := range 40 {
		before := calls.Load()
		f.configure(t, servers[(i+1)%2], fmt.Sprintf("v%d", (i+1)%2+1))
		if err := (Client{f.control}).Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		for calls.Load() < before+4 && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
	}
	close(stop)
	clients.Wait()
	if connections.Load() != 2 {
		t.Errorf("the clients needed %d connections, not 2", connections.Load())
	}
	if state := s.State(); state.Changes != 40 || state.Connections > 2 {
		t.Errorf("%+v", state)
	}
}

func TestAConfigurationThatIsWrongLeavesTheOldOne(t *testing.T) {
	f := newFiles(t)
	f.configure(t, greeter(t, "first"), "v2")
	run(t, f)
	f.write(t, "greeter.yaml", strings.Replace(greeters, "{from: name, to: first}", "{from: name, to: frist}", 1))
	err := (Client{f.control}).Reload(t.Context())
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Text, "greeter.yaml:") || !strings.Contains(refused.Text, "a wrong example") {
		t.Errorf("it answers %v", err)
	}
	if got := greet(t, newClient(t), f.addresses[2], "v1", "name"); got != greeted {
		t.Error(got)
	}
}

func TestAnotherProcessTakesOverWithoutCuttingOrRefusingAConnection(t *testing.T) {
	f := newFiles(t)
	f.configure(t, greeter(t, "first"), "v2")
	first := run(t, f)
	kept, spliced := newClient(t), newClient(t)
	var dialled atomic.Int64
	for _, c := range []*http.Client{kept, spliced} {
		c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled.Add(1)
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	}
	both := func() {
		t.Helper()
		if got := greet(t, kept, f.addresses[0], "", "name"); got != greeted {
			t.Errorf("translated: %s", got)
		}
		if got := greet(t, spliced, f.addresses[1], "", "first"); got != greeted {
			t.Errorf("spliced: %s", got)
		}
	}
	both()
	stop, refused := make(chan struct{}), atomic.Int64{}
	var load sync.WaitGroup
	load.Go(func() { // a new connection for each call
		for {
			select {
			case <-stop:
				return
			default:
			}
			c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			if got := greet(t, c, f.addresses[0], "", "name"); got != greeted {
				t.Error(got)
				refused.Add(1)
				return
			}
		}
	})
	var second *shim
	for range 5 {
		second = run(t, f)
		both()
	}
	close(stop)
	load.Wait()
	if dialled.Load() != 2 {
		t.Errorf("%d connections were made, not 2", dialled.Load())
	}
	clients, err := Find(filepath.Dir(f.control))
	if err != nil || len(clients) < 2 {
		t.Errorf("%d control sockets, %v", len(clients), err)
	}
	if state := first.State(); state.State != "draining" || state.Connections != 2 {
		t.Errorf("the first: %+v", state)
	}
	if state := second.State(); state.State != "serving" || len(state.Listen) != 3 {
		t.Errorf("the second: %+v", state)
	}
	kept.CloseIdleConnections()
	spliced.CloseIdleConnections()
	select {
	case err := <-first.ended:
		first.ended <- err
	case <-time.After(10 * time.Second):
		t.Error("the first does not end with its last connection")
	}
}

func TestAProcessThatDrainsTakesUpReloadsToo(t *testing.T) {
	f := newFiles(t)
	f.configure(t, greeter(t, "first"), "v2")
	run(t, f)
	kept := newClient(t)
	if got := greet(t, kept, f.addresses[0], "", "name"); got != greeted {
		t.Fatal(got)
	}
	run(t, f)
	f.configure(t, greeter(t, "name"), "v1")
	if err := (Client{f.control}).Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := greet(t, kept, f.addresses[0], "", "name"); got != greeted {
		t.Error(got)
	}
}

func TestASuccessorThatCannotRunLeavesTheFirstAsItWas(t *testing.T) {
	f := newFiles(t)
	f.configure(t, greeter(t, "first"), "v2")
	first := run(t, f)
	f.write(t, "shim.yaml", "record: greeter.yaml\n")
	if _, err := start(t.Context(), f.config, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("it runs without a server")
	}
	// One that dies before it is ready.
	before, err := findPredecessor(t.Context(), f.control)
	if err != nil {
		t.Fatal(err)
	}
	before.leave()
	for address, l := range first.listeners {
		mayNotBlock(t, address, l)
	}
	// One that dies before it has looked at the sockets.
	dies, err := net.Dial("unix", f.control)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(dies, "POST /handover HTTP/1.1\r\nHost: shim\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := dies.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for address, l := range first.listeners {
		mayNotBlock(t, address, l)
	}
	if err := dies.Close(); err != nil {
		t.Fatal(err)
	}
	if got := greet(t, newClient(t), f.addresses[2], "v1", "name"); got != greeted {
		t.Error(got)
	}
	if state := first.State(); state.State != "serving" || len(state.Listen) != 3 {
		t.Errorf("%+v", state)
	}
}

// mayNotBlock: a process whose accept finds nothing must not wait in it for ever.
func mayNotBlock(t *testing.T, address string, l *net.TCPListener) {
	t.Helper()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var flags int
	if controlled := raw.Control(func(fd uintptr) { flags, err = unix.FcntlInt(fd, unix.F_GETFL, 0) }); errors.Join(controlled, err) != nil {
		t.Fatal(controlled, err)
	}
	if flags&unix.O_NONBLOCK == 0 {
		t.Errorf("the socket of %s blocks", address)
	}
}

func TestTheSocketOfAProcessThatWasKilledIsReplaced(t *testing.T) {
	f := newFiles(t)
	f.configure(t, greeter(t, "first"), "v2")
	if err := os.MkdirAll(filepath.Dir(f.control), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: f.control, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, f)
	if state, err := (Client{f.control}).State(t.Context()); err != nil || state.Service != "greeter" {
		t.Errorf("%+v, %v", state, err)
	}
}

func TestAClientsVersionIsKnownByItsAddress(t *testing.T) {
	f := newFiles(t)
	f.configure(t, greeter(t, "first"), "v2")
	s := run(t, f)
	data, err := os.ReadFile(f.config)
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, "shim.yaml", string(data)+"clients: {127.0.0.1: v2}\n")
	if err := (Client{f.control}).Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The port stands for v1, and the client is known to be v2: its bytes are not looked at.
	if got := greet(t, newClient(t), f.addresses[0], "", "first"); got != greeted {
		t.Error(got)
	}
	if s.State().Spliced != 1 {
		t.Errorf("%+v", s.State())
	}
}

func TestCountersMetricsAndATraceTellWhatBecameOfCalls(t *testing.T) {
	f := newFiles(t)
	f.configure(t, greeter(t, "first"), "v2")
	run(t, f)
	control, client := Client{f.control}, newClient(t)
	traced := make(chan error, 1)
	var shown bytes.Buffer
	go func() {
		trace, err := control.Trace(context.Background(), "/greet", 10*time.Second)
		if err == nil {
			for _, p := range trace.Passages {
				fmt.Fprintf(&shown, "%s %s>%s %s %s\n", p.Part, p.From, p.To, p.Before.Body, p.After.Body)
			}
			fmt.Fprintf(&shown, "%s>%s %d", trace.Client, trace.Server, trace.Status)
		}
		traced <- err
	}()
	for len(traced) == 0 { // the trace gets the first call behind it
		if got := greet(t, client, f.addresses[2], "v1", "name"); got != greeted {
			t.Fatal(got)
		}
		time.Sleep(time.Millisecond)
	}
	if err := <-traced; err != nil {
		t.Fatal(err)
	}
	want := "request v1>v2 {\"name\":\"Ada\"} {\"first\":\"Ada\"}\nanswer v1>v2 {\"text\":\"Hello\"} {\"text\":\"Hello\"}\nv1>v2 200"
	if shown.String() != want {
		t.Errorf("the trace shows %s", shown.String())
	}
	greet(t, client, f.addresses[2], "v9", "name")
	answer, err := client.Get("http://" + f.addresses[2] + "/shout")
	if err != nil || answer.StatusCode != http.StatusNotImplemented {
		t.Errorf("%v, %v", answer, err)
	}
	_, _ = io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	text, err := control.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`drydock_shim_calls_total{client="v1",outcome="disallowed",server="v2",service="greeter"} 1`,
		`drydock_shim_unknown_version_total{service="greeter"} 1`, `drydock_shim_connections{service="greeter"} 1`,
		`drydock_shim_hop_seconds_count{from="v1",service="greeter",to="v2"}`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("the metrics lack %s:\n%s", line, text)
		}
	}
	if _, err := control.Trace(t.Context(), "/nothing", time.Millisecond); err == nil {
		t.Error("a call was traced that did not come")
	}
}

func TestATraceThatWasBegunIsFetchedLater(t *testing.T) {
	f := newFiles(t)
	f.configure(t, greeter(t, "first"), "v2")
	run(t, f)
	control, client := Client{f.control}, newClient(t)
	id, err := control.BeginTrace(t.Context(), "/greet", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	none, err := control.BeginTrace(t.Context(), "/nothing", time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	var trace *proxy.Trace
	for trace == nil { // it waits in the background
		if got := greet(t, client, f.addresses[2], "v1", "name"); got != greeted {
			t.Fatal(got)
		}
		if trace, err = control.Begun(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if trace.Client != "v1" || trace.Status != http.StatusOK || len(trace.Passages) != 2 {
		t.Errorf("%+v", trace)
	}
	var refused *RefusedError
	for err == nil {
		_, err = control.Begun(t.Context(), none)
	}
	if !errors.As(err, &refused) || refused.Status != http.StatusGatewayTimeout {
		t.Errorf("a trace without a call: %v", err)
	}
	if _, err := control.Begun(t.Context(), "9"); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		t.Errorf("a trace that nobody began: %v", err)
	}
}

func TestCallsArePassedOnOnlyWhereAHeaderSaysTheirVersion(t *testing.T) {
	f := newFiles(t)
	text, err := os.ReadFile(filepath.Join(filepath.Dir(f.config), "greeter.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, "shim.yaml", "record: greeter.yaml\npass: true\nbackends: [{name: a, address: '127.0.0.1:1', version: v1, hold: true}]\nlisten: [{address: ':0'}]\ncontrol: /x.sock\n")
	l, err := load(t.Context(), f.config)
	if err != nil || !l.settings().Pass || !l.settings().Backends[0].Hold {
		t.Fatalf("%v: %+v", err, l)
	}
	f.write(t, "greeter.yaml", strings.Replace(string(text), "header: X-Greeter-Version, ", "", 1))
	if _, err := load(t.Context(), f.config); err == nil || !strings.Contains(err.Error(), "shim.yaml:2:7: pass: the record has no header") {
		t.Errorf("it says %v", err)
	}
}

func TestWhatIsWrongWithAConfigurationIsSaidAtItsPlace(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"unknown key":     {"record: greeter.yaml\nsevrer: {}\n", "shim.yaml:2:1: sevrer: unknown key"},
		"no listener":     {"record: greeter.yaml\nserver: {address: '127.0.0.1:1', version: v1}\nlisten: []\ncontrol: /x.sock\n", "shim.yaml:3:9: listen: there is no address"},
		"unknown version": {"record: greeter.yaml\nserver: {address: '127.0.0.1:1', version: v7}\nlisten: [{address: ':0'}]\ncontrol: /x.sock\n", `shim.yaml:2:43: server.version: service greeter has no version "v7"`},
		"no port":         {"record: greeter.yaml\nserver: {address: '127.0.0.1', version: v1}\nlisten: [{address: here}]\ncontrol: /x.sock\n", "server.address: is no host:port"},
		"no server":       {"record: greeter.yaml\nlisten: [{address: ':0'}]\ncontrol: /x.sock\n", "server: there must be a server, or backends"},
		"a name twice": {"record: greeter.yaml\nbackends: [{name: a, address: '127.0.0.1:1', version: v1}, {name: a, address: '127.0.0.1:2', version: v1}]\n" +
			"listen: [{address: ':0'}]\ncontrol: /x.sock\n", "backends[1]: its name or address is there already"},
		"a relative path": {"record: greeter.yaml\nserver: {address: '127.0.0.1:1', version: v1}\nlisten: [{address: ':0'}]\ncontrol: x.sock\n", "control: is not absolute"},
		"no client":       {"record: greeter.yaml\nserver: {address: '127.0.0.1:1', version: v1}\nlisten: [{address: ':0'}]\ncontrol: /x.sock\nclients: {here: v1}\n", "clients.here: is no address"},
		"a wrong record":  {"record: shim.yaml\nserver: {address: '127.0.0.1:1', version: v1}\nlisten: [{address: ':0'}]\ncontrol: /x.sock\n", "shim.yaml:1:1: record: unknown key"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFiles(t)
			f.write(t, "shim.yaml", test.text)
			_, err := start(t.Context(), f.config, slog.New(slog.DiscardHandler))
			var problems strictyaml.Problems
			if !errors.As(err, &problems) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("it says %v", err)
			}
		})
	}
}

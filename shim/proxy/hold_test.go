package proxy

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestACallIsCountedFromWhenItsServerIsChosen(t *testing.T) {
	settings := Settings{Record: ordersRecord(t), Backends: []Backend{{Name: "a", Address: address(named(t, "a")), Version: "v2"}}}
	p, addr := start(t, settings, "")
	body, more := io.Pipe()
	r, err := http.NewRequest("PUT", "http://"+addr+"/orders/7", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Orders-Version", "v1")
	r.Header.Set("Content-Type", "application/json")
	answered := make(chan string, 1)
	go func() {
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			answered <- err.Error()
			return
		}
		_ = answer.Body.Close()
		answered <- answer.Header.Get("X-Name")
	}()
	calls := func(want int64) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); p.Backends()[0].Calls != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d calls are under way, not %d", p.Backends()[0].Calls, want)
			}
		}
	}
	calls(1) // it waits for a body that it has to translate
	settings.Backends = []Backend{settings.Backends[0]}
	settings.Backends[0].Hold = true
	if err := p.Reconfigure(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	calls(1)
	_, _ = io.WriteString(more, encode("v1", order{"Ada", "King", 1250})) // a client that was answered does not read it
	_ = more.Close()
	if got := <-answered; got != "a" {
		t.Errorf("the call that came before went to %q", got)
	}
	calls(0)
}

func TestACallThatIsRefusedIsUnderWayNoMore(t *testing.T) {
	p, addr := start(t, Settings{Record: ordersRecord(t), Backends: []Backend{{Name: "a", Address: address(named(t, "a")), Version: "v3"}}}, "")
	for _, method := range []string{"DELETE", "GET"} { // v3 knows no DELETE
		r, err := http.NewRequest(method, "http://"+addr+"/orders/7", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	}
	for deadline := time.Now().Add(time.Minute); p.Backends()[0].Calls != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d calls are under way", p.Backends()[0].Calls)
		}
	}
}

// A call is in the old graph, and chooses its server after others have been told that calls are held.
func TestACallUnderEarlierSettingsDoesNotGoToABackendThatIsHeldSince(t *testing.T) {
	settings := Settings{Record: ordersRecord(t), Backends: []Backend{{Name: "a", Address: address(named(t, "a")), Version: "v2"}}}
	p, err := New(settings, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	earlier := p.ready.Load()
	late := func() *call { return &call{request: httptest.NewRequest("GET", "/orders/7", nil), client: "v2"} }
	set := func(hold bool) {
		t.Helper()
		settings.Backends = []Backend{settings.Backends[0]}
		settings.Backends[0].Hold = hold
		if err := p.Reconfigure(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
	}
	set(true)
	if err := earlier.choose(late()); !errors.Is(err, errHeld) || p.Backends()[0].Calls != 0 {
		t.Errorf("it goes there: %v; %d calls are under way", err, p.Backends()[0].Calls)
	}
	if b := earlier.whole("v2"); b != nil {
		t.Errorf("a connection goes to %s", b.Name)
	}
	set(false)
	c := late()
	if err := earlier.choose(c); err != nil || p.Backends()[0].Calls != 1 {
		t.Errorf("released, it does not go there: %v; %d calls are under way", err, p.Backends()[0].Calls)
	}
	c.leave()
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestACallThatWaitsIsOneSpanAndOneTrace(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	tracer := trace.NewTracerProvider(trace.WithSpanProcessor(spans)).Tracer("shim")
	settings := Settings{Record: ordersRecord(t), Tracer: tracer, Backends: []Backend{{Name: "a", Address: address(named(t, "a")), Version: "v2", Hold: true}}}
	p, addr := start(t, settings, "")
	w := &watch{prefix: "/orders", done: make(chan struct{})}
	p.watches.add(w)
	answered := make(chan string, 1)
	go func() { answered <- who(t, http.DefaultClient, addr, "v1", "7") }()
	for deadline := time.Now().Add(time.Minute); p.watches.waiting.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody calls")
		}
	}
	for _, hold := range []bool{true, true, false} {
		settings.Backends = []Backend{settings.Backends[0]}
		settings.Backends[0].Hold = hold
		if err := p.Reconfigure(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-answered; got != "a" {
		t.Errorf("it went to %s", got)
	}
	if ended := spans.Ended(); len(ended) != 1 || ended[0].Status().Code == codes.Error {
		t.Errorf("it has %d spans", len(ended))
	}
	select {
	case <-w.done:
	case <-time.After(time.Minute):
		t.Fatal("its trace does not end")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := w.trace; got.Error != "" || got.Status != http.StatusNoContent || got.Server != "v2" || len(got.Passages) == 0 {
		t.Errorf("its trace is %+v", got)
	}
}

func TestAClientWhoseCallHasNoServerIsToldWhatToDo(t *testing.T) {
	p, err := New(Settings{Record: ordersRecord(t), Backends: []Backend{{Name: "a", Address: "127.0.0.1:1", Version: "v2"}}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, none := p.ready.Load().pick("v9", "", false)
	for _, test := range []struct {
		err    error
		status int
		want   string
	}{
		{errHeld, http.StatusServiceUnavailable, "call again later"},
		{none, http.StatusBadGateway, "no chain of service orders leads from version v9 to a server: add one"},
	} {
		w := httptest.NewRecorder()
		p.failed(w, httptest.NewRequest("GET", "/orders/7", nil), test.err)
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("status %d: %s; expected %d, %q", w.Code, w.Body, test.status, test.want)
		}
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

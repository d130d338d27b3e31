package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/shim/record"
)

// routed is the record of the order service, whose calls for one order belong to one server.
func routed(t *testing.T) *record.Record {
	t.Helper()
	data, err := os.ReadFile("../../configs/services/orders.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), "pairs:\n", "route:\n  - {match: {path: '/orders/{id}'}, by: 'path:id'}\n"+
		"  - {match: {path: '/tenants/{tenant}/orders/{id}'}, by: 'path:id'}\npairs:\n", 1)
	r, err := record.Parse("orders.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// named is a server that answers with its name, whatever the call.
func named(t *testing.T, name string) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Name", name)
		w.Header().Set("X-Path", r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(s.Close)
	return s
}

// who makes a PUT of an order and gives the name of the server that answered.
func who(t *testing.T, client *http.Client, addr, version, id string) string {
	t.Helper()
	r, err := http.NewRequest("PUT", "http://"+addr+pathOf(version)+"/"+id, strings.NewReader(encode(version, order{"Ada", "King", 1250})))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Orders-Version", version)
	if version == "v2" {
		r.Header.Set("X-Tenant", "main")
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		return fmt.Sprint("status ", answer.StatusCode)
	}
	return answer.Header.Get("X-Name")
}

func TestAGatewayPrefersTheSameVersionAndThenTheShortestChain(t *testing.T) {
	servers := map[string]*httptest.Server{"v2": named(t, "v2"), "v3": named(t, "v3")}
	backends := []Backend{{Name: "b", Address: address(servers["v3"]), Version: "v3"}, {Name: "a", Address: address(servers["v2"]), Version: "v2"}}
	_, addr := start(t, Settings{Record: ordersRecord(t), Backends: backends, Health: Health{Every: 10 * time.Millisecond}}, "")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range 4 {
		for version, want := range map[string]string{"v1": "v2", "v2": "v2", "v3": "v3"} {
			if got := who(t, client, addr, version, "7"); got != want {
				t.Errorf("a client of %s is served by %s", version, got)
			}
		}
	}
	// Without its own version, it is served by the other one.
	servers["v2"].Close()
	if got := who(t, client, addr, "v3", "7"); got != "v3" {
		t.Error(got)
	}
	for deadline := time.Now().Add(5 * time.Second); who(t, client, addr, "v1", "7") != "v3"; {
		if time.Now().After(deadline) {
			t.Fatal("a client of v1 is not led to v3")
		}
	}
}

func TestACallRatherWaitsForABackendThatIsHeldThanFailsAtOneThatIsDown(t *testing.T) {
	usable, held, down, both := &backend{Backend{Name: "usable"}, &condition{}}, &backend{Backend{Name: "held", Hold: true}, &condition{}},
		&backend{Backend{Name: "down"}, &condition{}}, &backend{Backend{Name: "both", Hold: true}, &condition{}}
	down.down.Store(true)
	both.down.Store(true) // it is being upgraded, and will be back
	for _, pair := range [][2]*backend{{usable, held}, {usable, down}, {usable, both}, {held, down}, {both, down}} {
		r := &ready{}
		if !r.better("v1", pair[0], pair[1]) || r.better("v1", pair[1], pair[0]) {
			t.Errorf("%s is not better than %s", pair[0].Name, pair[1].Name)
		}
	}
}

func TestAGatewaySpreadsOverEqualBackendsAndLosesNoCallWhenOneGoes(t *testing.T) {
	var backends []Backend
	var servers []*httptest.Server
	for _, name := range []string{"a", "b", "c"} {
		servers = append(servers, named(t, name))
		backends = append(backends, Backend{Name: name, Address: address(servers[len(servers)-1]), Version: "v2"})
	}
	p, addr := start(t, Settings{Record: ordersRecord(t), Backends: backends, Health: Health{Every: time.Hour}}, "")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	served := map[string]int{}
	for range 60 {
		served[who(t, client, addr, "v1", "7")]++
	}
	if len(served) != 3 || served["a"] < 10 || served["b"] < 10 || served["c"] < 10 {
		t.Errorf("served by %v", served)
	}
	p.plain.CloseIdleConnections()
	servers[1].CloseClientConnections()
	servers[1].Close()
	clear(served)
	for range 60 {
		served[who(t, client, addr, "v1", "7")]++
	}
	if len(served) != 2 || served["a"]+served["c"] != 60 {
		t.Errorf("served by %v", served)
	}
	for _, b := range p.Backends() {
		if b.Healthy == (b.Name == "b") {
			t.Errorf("%+v", b)
		}
	}
}

func TestACallWithAKeyGoesToItsBackendInEveryVersionAndThroughUpgrades(t *testing.T) {
	r := routed(t)
	settings := Settings{Record: r}
	for _, name := range []string{"a", "b", "c"} {
		settings.Backends = append(settings.Backends, Backend{Name: name, Address: address(named(t, name)), Version: "v1"})
	}
	p, addr := start(t, settings, "")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	owners, load := map[string]string{}, map[string]int{}
	for i := range 60 {
		id := fmt.Sprint("order-", i)
		owners[id] = who(t, client, addr, "v1", id)
		load[owners[id]]++
	}
	if len(load) != 3 || load["a"] < 8 || load["b"] < 8 || load["c"] < 8 {
		t.Errorf("keys belong to %v", load)
	}
	var group sync.WaitGroup
	stop := make(chan struct{})
	group.Go(func() {
		for {
			for id, owner := range owners {
				select {
				case <-stop:
					return
				default:
				}
				if got := who(t, client, addr, "v2", id); got != owner {
					t.Errorf("%s went to %s, and belongs to %s", id, got, owner)
					return
				}
			}
		}
	})
	for i := range 3 {
		for _, version := range []string{"v2", "v3"} {
			settings.Backends = append([]Backend{}, settings.Backends...)
			settings.Backends[i].Version = version
			if err := p.Reconfigure(t.Context(), settings); err != nil {
				t.Fatal(err)
			}
			for id, owner := range owners {
				if got := who(t, client, addr, "v3", id); got != owner {
					t.Fatalf("%s went to %s, and belongs to %s", id, got, owner)
				}
			}
		}
	}
	close(stop)
	group.Wait()
}

func TestABackendIsHealthyWhenItsPathAnswers(t *testing.T) {
	status := http.StatusServiceUnavailable
	var mu sync.Mutex
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path != "/ready" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(status)
	}))
	defer s.Close()
	h := Health{Path: "/ready", Every: time.Second}
	if err := h.probe(t.Context(), address(s)); err == nil {
		t.Error("it is healthy with 503")
	}
	mu.Lock()
	status = http.StatusOK
	mu.Unlock()
	if err := h.probe(t.Context(), address(s)); err != nil {
		t.Error(err)
	}
}

func TestACallToABackendThatIsHeldWaitsUntilItIsReleased(t *testing.T) {
	settings := Settings{Record: routed(t)}
	for _, name := range []string{"a", "b"} {
		settings.Backends = append(settings.Backends, Backend{Name: name, Address: address(named(t, name)), Version: "v2"})
	}
	p, addr := start(t, settings, "")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	ids := map[string]string{}
	for i := 0; len(ids) < 2; i++ {
		ids[who(t, client, addr, "v1", fmt.Sprint(i))] = fmt.Sprint(i)
	}
	hold := func(held bool) {
		t.Helper()
		settings.Backends = slices.Clone(settings.Backends)
		settings.Backends[0].Hold = held
		if err := p.Reconfigure(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
	}
	hold(true)
	answered := make(chan string, 2)
	for _, version := range []string{"v1", "v2"} {
		go func() { answered <- who(t, client, addr, version, ids["a"]) }()
	}
	for range 20 {
		if got := who(t, client, addr, "v3", ids["b"]); got != "b" {
			t.Fatal(got)
		}
	}
	if len(answered) > 0 {
		t.Error("a call went to a backend that is held, or failed")
	}
	hold(true) // other settings, in which it is held still
	hold(false)
	for range 2 {
		if got := <-answered; got != "a" {
			t.Errorf("a call that waited went to %s", got)
		}
	}
}

func TestAConnectionToABackendThatIsHeldWaitsToo(t *testing.T) {
	settings := Settings{Record: ordersRecord(t), Backends: []Backend{{Name: "a", Address: address(named(t, "a")), Version: "v2", Hold: true}}}
	p, addr := start(t, settings, "v2")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	answered := make(chan string, 1)
	go func() { answered <- who(t, client, addr, "v2", "7") }()
	for deadline := time.Now().Add(time.Minute); p.Connections() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody connects")
		}
	}
	if len(answered) > 0 {
		t.Error("a call went to a backend that is held, or failed")
	}
	settings.Backends = []Backend{settings.Backends[0]}
	settings.Backends[0].Hold = false
	if err := p.Reconfigure(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	if got := <-answered; got != "a" || p.Spliced() != 0 {
		t.Errorf("it went to %s; %d connections were joined", got, p.Spliced())
	}
}

func TestAGatewayThatPassesCallsOnSaysTheVersionOfAPortToo(t *testing.T) {
	said := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { said <- r.Header.Get("X-Orders-Version") }))
	t.Cleanup(s.Close)
	_, addr := start(t, Settings{Record: ordersRecord(t), Backends: []Backend{{Name: "a", Address: address(s), Version: "v2"}}, Pass: true}, "v2")
	answer, err := http.Get("http://" + addr + "/orders/7")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if got := <-said; got != "v2" {
		t.Errorf("the server's shim hears %q", got)
	}
}

func TestAGatewayThatPassesCallsOnSaysTheVersionOfEach(t *testing.T) {
	type seen struct{ path, version, body string }
	calls := make(chan seen, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- seen{r.URL.Path, r.Header.Get("X-Orders-Version"), string(body)}
	}))
	t.Cleanup(s.Close)
	backends := []Backend{{Name: "a", Address: address(s), Version: "v3"}}
	_, addr := start(t, Settings{Record: ordersRecord(t), Backends: backends, Pass: true}, "")
	for said, want := range map[string]string{"": "v1", "v1": "v1", "v2": "v2", "v3": "v3"} {
		r, err := http.NewRequest("PUT", "http://"+addr+"/orders/7", strings.NewReader(`{"any": "thing"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if said != "" {
			r.Header.Set("X-Orders-Version", said)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if got := <-calls; answer.StatusCode != http.StatusOK || got != (seen{"/orders/7", want, `{"any": "thing"}`}) {
			t.Errorf("a client that says %q: %d, %+v", said, answer.StatusCode, got)
		}
	}
}

func TestACallIsUnderWayUntilItsAnswerHasEnded(t *testing.T) {
	more := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-more
		_, _ = io.WriteString(w, "the rest")
	}))
	t.Cleanup(s.Close)
	p, addr := start(t, Settings{Record: ordersRecord(t), Backends: []Backend{{Name: "a", Address: address(s), Version: "v3"}}, Pass: true}, "")
	answer, err := http.Get("http://" + addr + "/orders/7")
	if err != nil {
		t.Fatal(err)
	}
	if calls := p.Backends()[0].Calls; calls != 1 {
		t.Errorf("while an answer comes, %d calls are under way", calls)
	}
	close(more)
	body, err := io.ReadAll(answer.Body)
	if err != nil || string(body) != "the rest" {
		t.Errorf("got %q, %v", body, err)
	}
	_ = answer.Body.Close()
	for deadline := time.Now().Add(time.Minute); p.Backends()[0].Calls != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the call never ends")
		}
	}
}

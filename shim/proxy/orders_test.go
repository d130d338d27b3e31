package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"drydock/shim/record"
)

// order is one of the service that configs/services/orders.yaml is about.
type order struct {
	First, Last string
	Cents       int64
}

// shop is that service: it speaks one version.
type shop struct {
	version string
	mu      sync.Mutex
	orders  map[string]order
}

func newShop(t testing.TB, version string) *httptest.Server {
	s := &shop{version: version, orders: map[string]order{}}
	mux := http.NewServeMux()
	path := "/orders"
	if version == "v3" {
		path = "/tenants/main/orders"
	}
	mux.HandleFunc("PUT "+path+"/{id}", s.put)
	mux.HandleFunc("GET "+path+"/{id}", s.get)
	mux.HandleFunc("GET "+path, s.list)
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = protocols(true, true)
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func (s *shop) put(w http.ResponseWriter, r *http.Request) {
	var o order
	data, err := io.ReadAll(r.Body)
	if err == nil {
		o, err = decode(s.version, data)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.orders[r.PathValue("id")] = o
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (s *shop) get(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	o, ok := s.orders[r.PathValue("id")]
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, encode(s.version, o))
}

func (s *shop) list(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for id, o := range s.orders {
		all = append(all, strings.Replace(encode(s.version, o), "{", `{"id":"`+id+`",`, 1))
	}
	text := "[" + strings.Join(all, ",") + "]"
	if s.version != "v1" {
		text = `{"orders":` + text + `}`
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	fmt.Fprint(w, text)
}

func encode(version string, o order) string {
	if version == "v1" {
		return fmt.Sprintf(`{"customer":"%s %s","total":%d.%02d}`, o.First, o.Last, o.Cents/100, o.Cents%100)
	}
	return fmt.Sprintf(`{"customer":{"first":%q,"last":%q},"cents":%d}`, o.First, o.Last, o.Cents)
}

func decode(version string, data []byte) (order, error) {
	var o order
	if version == "v1" {
		var in struct {
			Customer string
			Total    json.Number
		}
		if err := strictly(data, &in); err != nil {
			return o, err
		}
		o.First, o.Last, _ = strings.Cut(in.Customer, " ")
		whole, part, _ := strings.Cut(in.Total.String(), ".")
		var err error
		o.Cents, err = strconv.ParseInt(whole+(part + "00")[:2], 10, 64)
		return o, err
	}
	var in struct {
		Customer struct{ First, Last string }
		Cents    int64
	}
	err := strictly(data, &in)
	return order{in.Customer.First, in.Customer.Last, in.Cents}, err
}

func strictly(data []byte, into any) error {
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func ordersRecord(t testing.TB) *record.Record {
	t.Helper()
	r, err := record.Load("../../configs/services/orders.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// start runs a proxy and gives its address.
func start(t testing.TB, s Settings, version string) (*Proxy, string) {
	t.Helper()
	p, err := New(s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(l, version) }()
	t.Cleanup(func() {
		if err := p.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Errorf("close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return p, l.Addr().String()
}

func address(s *httptest.Server) string { return s.Listener.Addr().String() }

// do makes a call as a client of a version, and gives status and body.
func do(t testing.TB, client *http.Client, version, method, url, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Orders-Version", version)
	if version == "v2" {
		r.Header.Set("X-Tenant", "main")
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(data)
}

func pathOf(version string) string {
	if version == "v3" {
		return "/tenants/main/orders"
	}
	return "/orders"
}

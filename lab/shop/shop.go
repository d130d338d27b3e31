package shop

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"drydock/internal/durable"
)

// What calls say beside their messages: the client's version, the order of a call over gRPC, and, in answers, the server's version.
const (
	VersionHeader = "X-Shop-Version"
	OrderHeader   = "X-Order"
	ServedHeader  = "X-Shop-Served"
)

// Port is where a server listens, Dir where its volume is, and Kept where a transform finds what the pod's shim has kept.
const (
	Port = 8080
	Dir  = "/data"
	Kept = "/drydock/kept"
)

// Versions are those that there is a server of.
var Versions = []string{"v1", "v2", "v3"}

// order has the fields of all versions; each uses its own.
type order struct {
	Cents    int64  `json:"cents,omitempty"`
	Amount   int64  `json:"amount,omitempty"`
	Currency string `json:"currency,omitempty"`
	Note     string `json:"note,omitempty"`
}

// is says whether an order has only what a version knows.
func (o order) is(version string) bool {
	switch version {
	case "v1":
		return o.Amount == 0 && o.Currency == "" && o.Note == ""
	case "v2":
		return o.Cents == 0 && o.Currency != "" && o.Note == ""
	}
	return o.Cents == 0 && o.Currency != ""
}

// file is what a version stores.
type file struct {
	Version string           `json:"version"`
	Orders  map[string]order `json:"orders"`
}

func path(dir string) string { return filepath.Join(dir, "orders.json") }

func load(dir, version string) (file, error) {
	data, err := os.ReadFile(path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return file{Version: version, Orders: map[string]order{}}, nil
	}
	var f file
	if err == nil {
		err = json.Unmarshal(data, &f)
	}
	if err == nil && f.Version != version {
		err = fmt.Errorf("%s is of version %s, not %s", path(dir), f.Version, version)
	}
	return f, err
}

func (f file) save(dir string) error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return durable.Replace(path(dir), data, 0o600)
}

// store is a version's orders over what lies in a directory.
type store struct {
	dir, version string

	mu sync.Mutex
	f  file
}

func open(dir, version string) (*store, error) {
	f, err := load(dir, version)
	return &store{dir: dir, version: version, f: f}, err
}

func (s *store) put(id string, o order) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.f.Orders[id] = o
	return s.f.save(s.dir)
}

func (s *store) get(id string) (order, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.f.Orders[id]
	return o, ok
}

// remove is what only v3 can.
func (s *store) remove(id string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.f.Orders[id]; !ok {
		return false, nil
	}
	delete(s.f.Orders, id)
	return true, s.f.save(s.dir)
}

// Handler serves a version over what lies in dir, by HTTP and gRPC.
func Handler(dir, version string) (http.Handler, error) {
	s, err := open(dir, version)
	if err != nil {
		return nil, err
	}
	calls, err := s.grpc()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("PUT /orders/{id}", s.write)
	mux.HandleFunc("GET /orders/{id}", s.read)
	if version == "v3" {
		mux.HandleFunc("DELETE /orders/{id}", s.delete)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(ServedHeader, version)
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			calls.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}), nil
}

func (s *store) write(w http.ResponseWriter, r *http.Request) {
	var o order
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&o); err != nil || !o.is(s.version) {
		http.Error(w, "not an order of "+s.version, http.StatusBadRequest)
		return
	}
	if err := s.put(r.PathValue("id"), o); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *store) read(w http.ResponseWriter, r *http.Request) {
	o, ok := s.get(r.PathValue("id"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(o)
}

func (s *store) delete(w http.ResponseWriter, r *http.Request) {
	found, err := s.remove(r.PathValue("id"))
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case !found:
		http.NotFound(w, r)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

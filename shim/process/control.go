package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"drydock/internal/version"
	"drydock/shim/chain"
	"drydock/shim/proxy"
)

// State is what a shim says of itself.
type State struct {
	Service string `json:"service"`
	PID     int    `json:"pid"`
	// Program is the version of drydock that runs.
	Program string    `json:"program"`
	Since   time.Time `json:"since"`
	// State is serving, or draining where another process has taken over.
	State    string   `json:"state"`
	Versions []string `json:"versions"`
	// Version is what the server speaks, or all that the backends speak.
	Version string `json:"version"`
	Server  string `json:"server"`
	// Backends are those of a gateway, or the one server.
	Backends    []proxy.BackendState `json:"backends"`
	Listen      []string             `json:"listen"`
	Connections int                  `json:"connections"`
	Spliced     uint64               `json:"spliced"`
	Unknown     uint64               `json:"unknown"`
	Faults      uint64               `json:"faults"`
	Changes     uint64               `json:"changes"`
	Calls       []chain.Count        `json:"calls"`
	Hops        []HopState           `json:"hops"`
}

// HopState is how long a translator took, in all and on average.
type HopState struct {
	From  string        `json:"from"`
	To    string        `json:"to"`
	Times uint64        `json:"times"`
	Total time.Duration `json:"total_ns"`
	Mean  time.Duration `json:"mean_ns"`
}

// control is the socket of those who run the shim.
type control struct {
	server *http.Server

	mu       sync.Mutex
	path     string
	listener *net.UnixListener
}

func newControl(p *Process) (*control, error) {
	path := p.config.Control
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	l, err := listenUnix(path)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{p})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", p.serveState)
	mux.HandleFunc("POST /reload", p.serveReload)
	mux.HandleFunc("GET /trace", p.serveTrace)
	mux.HandleFunc("POST /traces", p.serveBeginTrace)
	mux.HandleFunc("GET /traces/{id}", p.serveBegunTrace)
	mux.HandleFunc("POST /handover", p.serveHandover)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	c := &control{server: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}, path: path, listener: l}
	c.serve(l, p.log)
	return c, nil
}

func listenUnix(path string) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("shim: control socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // it may be somebody else's by then
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("shim: %w", err), l.Close(), os.Remove(path))
	}
	return l, nil
}

func (c *control) serve(l net.Listener, log *slog.Logger) {
	go func() {
		if err := c.server.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			log.Error("the control socket is served no more", "error", err)
		}
	}()
}

// move makes place for a successor's socket. Renaming it would not do: the kernel goes on calling it by the name that it was bound
// to, and where the two processes are dumped and restored one would be given the other's.
func (c *control) move(to string, log *slog.Logger) error {
	l, err := listenUnix(to)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := os.Remove(c.path); err != nil {
		return errors.Join(err, l.Close(), os.Remove(to))
	}
	before := c.listener
	c.path, c.listener = to, l
	c.serve(l, log)
	return before.Close()
}

func (c *control) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.server.Close(), os.Remove(c.path))
}

// State is how the shim is now.
func (p *Process) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := State{
		Service: p.config.record.Service, PID: os.Getpid(), Program: version.String(), Since: p.since, State: "serving", Versions: p.config.record.Versions,
		Backends: p.proxy.Backends(), Listen: []string{}, Connections: p.proxy.Connections(),
		Spliced: p.proxy.Spliced(), Unknown: p.proxy.Unknown(), Faults: p.proxy.Faults(), Changes: p.proxy.Changes(), Calls: p.proxy.Counts(), Hops: []HopState{},
	}
	if p.isRetired() {
		s.State = "draining"
	}
	var versions []string
	for _, b := range s.Backends {
		if !slices.Contains(versions, b.Version) {
			versions = append(versions, b.Version)
		}
	}
	slices.Sort(versions)
	s.Version, s.Server = strings.Join(versions, ", "), p.config.servers()
	for _, one := range p.config.Listen {
		if l := p.listeners[one.Address]; l != nil {
			s.Listen = append(s.Listen, l.Addr().String())
		}
	}
	for _, h := range p.proxy.Hops() {
		s.Hops = append(s.Hops, HopState{h.From, h.To, h.Times, h.Total, h.Total / time.Duration(h.Times)})
	}
	return s
}

func (p *Process) serveState(w http.ResponseWriter, _ *http.Request) { answer(w, p.State()) }

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // a client that has gone does not read it
}

// serveReload reloads the processes that are draining too: their connections meet the new configuration as well.
func (p *Process) serveReload(w http.ResponseWriter, r *http.Request) {
	err := p.reload(r.Context())
	if !p.isRetired() {
		others, globErr := filepath.Glob(drainingPath(p.config.Control, "*"))
		err = errors.Join(err, globErr)
		for _, other := range others {
			if e := (Client{other}).Reload(r.Context()); e != nil {
				err = errors.Join(err, fmt.Errorf("%s, which ends with its last connection: %w", filepath.Base(other), e))
			}
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	answer(w, p.State())
}

func (p *Process) serveTrace(w http.ResponseWriter, r *http.Request) {
	wait, err := time.ParseDuration(r.URL.Query().Get("wait"))
	if err != nil {
		http.Error(w, "wait: "+err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	trace, err := p.proxy.Trace(ctx, r.URL.Query().Get("path"))
	if err != nil {
		http.Error(w, "no call came within "+wait.String(), http.StatusGatewayTimeout)
		return
	}
	answer(w, trace)
}

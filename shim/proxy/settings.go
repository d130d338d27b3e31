package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"

	"go.opentelemetry.io/otel/trace"

	"drydock/shim/chain"
	"drydock/shim/module"
	"drydock/shim/record"
)

// Settings are what can be changed while a proxy runs.
type Settings struct {
	// Record says how versions are told and how calls are translated.
	Record *record.Record
	// Server is the address of the server, host:port, and Version what it speaks.
	Server, Version string
	// Backends are a gateway's servers, in place of Server and Version.
	Backends []Backend
	Health   Health
	// Pass leaves calls as they are, but for the header, which gets the client's version: the servers' own shims translate them.
	Pass bool
	// Clients are versions that are known by the client's address: those of pods, from their manifests.
	Clients map[netip.Addr]string
	// MaxBody bounds the bodies and messages that are translated, in bytes; 0 is 4 MiB. Others are not bounded.
	MaxBody int64
	// Tracer makes a span of each call that is not spliced; nil makes none.
	Tracer trace.Tracer
}

const defaultMaxBody = 4 << 20

// ready is Settings with all chains planned.
type ready struct {
	Settings
	// chains are by the versions of client and server.
	chains map[[2]string]*chain.Chain
	// steps are the modules, where the record is that of a stream.
	steps    map[[2]string][]module.Step
	backends []*backend
	turn     atomic.Uint64
	// over is closed when other settings are in force.
	over chan struct{}
}

func (s Settings) ready(counter *chain.Counter, known *conditions) (*ready, error) {
	if s.Server != "" {
		s.Backends = []Backend{{Name: "server", Address: s.Server, Version: s.Version}}
	}
	if s.Record == nil || len(s.Backends) == 0 {
		return nil, errors.New("a proxy needs a record and the address of a server")
	}
	if s.Health.Every <= 0 {
		s.Health.Every = defaultEvery
	}
	if s.MaxBody <= 0 {
		s.MaxBody = defaultMaxBody
	}
	r := &ready{Settings: s, chains: map[[2]string]*chain.Chain{}, steps: map[[2]string][]module.Step{}, over: make(chan struct{})}
	if s.Pass {
		if s.Record.Client.Header == "" {
			return nil, errors.New("calls can only be passed on where the record has a header that says their version")
		}
		for _, version := range s.Record.Versions {
			if err := r.plan(version, counter); err != nil {
				return nil, err
			}
		}
	}
	for _, b := range s.Backends {
		r.backends = append(r.backends, &backend{b, known.of(b.Address)})
		if err := r.plan(b.Version, counter); err != nil {
			return nil, fmt.Errorf("the version of %s: %w", b.Name, err)
		}
	}
	for address, version := range s.Clients {
		if !slices.Contains(s.Record.Versions, version) {
			return nil, fmt.Errorf("the client %s: %w", address, &chain.UnknownVersionError{
				Service: s.Record.Service, Version: version, Known: s.Record.Versions,
			})
		}
	}
	return r, nil
}

// hold has the backends held as the settings say, whatever calls have seen of them.
func (r *ready) hold() {
	for _, b := range r.backends {
		b.hold(b.Hold)
	}
}

func (r *ready) holds() bool {
	return slices.ContainsFunc(r.backends, func(b *backend) bool { return b.Hold })
}

// plan makes the chains from all versions to a server's.
func (r *ready) plan(server string, counter *chain.Counter) error {
	for _, client := range r.Record.Line.Versions() {
		key := [2]string{client, server}
		if r.chains[key] != nil {
			continue
		}
		var err error
		if r.chains[key], err = r.Record.Line.Plan(client, server, counter); err != nil {
			return err
		}
		if r.steps[key], err = r.Record.Steps(client, server); err != nil {
			return err
		}
	}
	return nil
}

// known is the version of a connection's client where its address or its port says it.
func (r *ready) known(c net.Conn, byPort string) string {
	if len(r.Clients) > 0 {
		if from, ok := c.RemoteAddr().(*net.TCPAddr); ok {
			if version, ok := r.Clients[from.AddrPort().Addr().Unmap()]; ok {
				return version
			}
		}
	}
	return byPort
}

// clientOf is the version that a call's client speaks: known with its connection, or by its header, or by default.
func (r *ready) clientOf(known string, header http.Header) string {
	if known != "" {
		return known
	}
	if name := r.Record.Client.Header; name != "" && header.Get(name) != "" {
		return header.Get(name)
	}
	return r.Record.Client.Default
}

// whole takes the backend for a whole connection, where one can be chosen before its first byte; nil where calls go their own ways, or
// have to wait or get a header. A stream is not kept waiting.
func (r *ready) whole(known string) *backend {
	if r.Pass || !r.Record.Stream() && (known == "" && r.Record.Client.Header != "" || len(r.backends) > 1 && r.Record.Router != nil) {
		return nil
	}
	client := r.clientOf(known, nil)
	b, err := r.pick(client, "", false)
	switch {
	case err != nil:
		return nil
	case r.Record.Stream():
		b.calls.Add(1)
		return b
	case b.Version != client || !b.take():
		return nil
	}
	return b
}

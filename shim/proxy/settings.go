package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"

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
	// Clients are versions that are known by the client's address: those of pods, from their manifests.
	Clients map[netip.Addr]string
	// MaxBody bounds the bodies and messages that are translated, in bytes; 0 is 4 MiB. Others are not bounded.
	MaxBody int64
}

const defaultMaxBody = 4 << 20

// ready is Settings with all chains planned.
type ready struct {
	Settings
	chains map[string]*chain.Chain
	// steps are the modules for clients of each version, where the record is that of a stream.
	steps map[string][]module.Step
}

func (s Settings) ready(counter *chain.Counter) (*ready, error) {
	if s.Record == nil || s.Server == "" {
		return nil, errors.New("a proxy needs a record and the address of a server")
	}
	if s.MaxBody <= 0 {
		s.MaxBody = defaultMaxBody
	}
	r := &ready{s, map[string]*chain.Chain{}, map[string][]module.Step{}}
	for _, version := range s.Record.Line.Versions() {
		c, err := s.Record.Line.Plan(version, s.Version, counter)
		if err != nil {
			return nil, fmt.Errorf("the server's version: %w", err)
		}
		r.chains[version] = c
		if r.steps[version], err = s.Record.Steps(version, s.Version); err != nil {
			return nil, err
		}
	}
	for address, version := range s.Clients {
		if r.chains[version] == nil {
			return nil, fmt.Errorf("the client %s: %w", address, &chain.UnknownVersionError{
				Service: s.Record.Service, Version: version, Known: s.Record.Versions,
			})
		}
	}
	return r, nil
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

// splices says whether every call of a connection means the same to the server, known before its first byte.
func (r *ready) splices(known string) bool {
	if known == "" && r.Record.Client.Header != "" {
		return false
	}
	return r.clientOf(known, nil) == r.Version
}

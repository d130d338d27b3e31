package proxy

import (
	"errors"
	"fmt"
	"net/http"

	"drydock/shim/chain"
	"drydock/shim/record"
)

// Settings are what can be changed while a proxy runs.
type Settings struct {
	// Record says how versions are told and how calls are translated.
	Record *record.Record
	// Server is the address of the server, host:port, and Version what it speaks.
	Server, Version string
	// MaxBody bounds the bodies and messages that are translated, in bytes; 0 is 4 MiB. Others are not bounded.
	MaxBody int64
}

const defaultMaxBody = 4 << 20

// ready is Settings with all chains planned.
type ready struct {
	Settings
	chains map[string]*chain.Chain
}

func (s Settings) ready(counter *chain.Counter) (*ready, error) {
	if s.Record == nil || s.Server == "" {
		return nil, errors.New("a proxy needs a record and the address of a server")
	}
	if s.MaxBody <= 0 {
		s.MaxBody = defaultMaxBody
	}
	r := &ready{s, map[string]*chain.Chain{}}
	for _, version := range s.Record.Line.Versions() {
		c, err := s.Record.Line.Plan(version, s.Version, counter)
		if err != nil {
			return nil, fmt.Errorf("the server's version: %w", err)
		}
		r.chains[version] = c
	}
	return r, nil
}

// clientOf is the version that a call's client speaks, by its header or by default.
func (r *ready) clientOf(byPort string, header http.Header) string {
	if byPort != "" {
		return byPort
	}
	if name := r.Record.Client.Header; name != "" && header.Get(name) != "" {
		return header.Get(name)
	}
	return r.Record.Client.Default
}

// splices says whether every call of a connection means the same to the server, known before its first byte.
func (r *ready) splices(byPort string) bool {
	if byPort == "" && r.Record.Client.Header != "" {
		return false
	}
	return r.clientOf(byPort, nil) == r.Version
}

package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"

	"drydock/internal/strictyaml"
	"drydock/shim/kept"
	"drydock/shim/proxy"
	"drydock/shim/record"
	"drydock/shim/rules"
)

// Config is a shim's configuration file.
type Config struct {
	// Record is the upgrade record's file, beside this one.
	Record string `yaml:"record" need:"write record: FILE, the service's upgrade record"`
	// Server is the one behind a sidecar, Backends are those behind a gateway.
	Server   *Server   `yaml:"server"`
	Backends []Backend `yaml:"backends"`
	Health   Health    `yaml:"health"`
	// Pass has a gateway leave calls as they are: the servers have shims of their own, which translate.
	Pass bool `yaml:"pass"`
	// Listen are the addresses where clients' connections arrive.
	Listen []Listen `yaml:"listen" need:"write listen: [{address: ':8081'}]"`
	// Clients are versions by the address that clients come from.
	Clients map[string]string `yaml:"clients"`
	// MaxBody bounds what is translated, in bytes; 0 is 4 MiB.
	MaxBody int64 `yaml:"max-body"`
	// Control is the socket for those who run the shim; its directory is made.
	Control string `yaml:"control" need:"write control: /run/drydock/shim/NAME.sock"`
	// State is the directory of what the shim keeps, where the record has it keep something.
	State string `yaml:"state"`
	// Traces is a collector's address, host:port, for spans by OTLP over gRPC; empty sends none.
	Traces string `yaml:"traces"`
	// Grace is how long calls may go on when the shim is told to end; 0 is 30s.
	Grace time.Duration `yaml:"grace"`
}

// Server is the program behind the shim.
type Server struct {
	Address string `yaml:"address" need:"write address: HOST:PORT, where the server listens"`
	Version string `yaml:"version" need:"write version: what the server speaks"`
}

// Backend is one server of a gateway. Keys of calls belong to its name.
type Backend struct {
	Name    string `yaml:"name" need:"write name: NAME, which stays the same when the pod moves or is upgraded"`
	Address string `yaml:"address" need:"write address: HOST:PORT, where the server listens"`
	Version string `yaml:"version" need:"write version: what the server speaks"`
	// Hold has calls to it wait until it is false again.
	Hold bool `yaml:"hold"`
}

// Health is how a gateway looks after its backends: it connects, or asks for a path.
type Health struct {
	Path  string        `yaml:"path"`
	Every time.Duration `yaml:"every"`
}

// Listen is one address. Port is the one that clients connect to, where connections are led here from another.
type Listen struct {
	Address string `yaml:"address" need:"write address: HOST:PORT, or :PORT for every address"`
	Port    int    `yaml:"port"`
}

const defaultGrace = 30 * time.Second

// loaded is a configuration with its record, whose examples hold.
type loaded struct {
	Config
	record  *record.Record
	clients map[netip.Addr]string
	tracer  trace.Tracer
}

// load reads a configuration. What is wrong with it or with its record is strictyaml.Problems.
func load(ctx context.Context, file string) (*loaded, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	l := &loaded{clients: map[netip.Addr]string{}}
	document, err := strictyaml.Decode(file, data, &l.Config)
	if err != nil {
		return nil, err
	}
	v := &validator{document: document}
	v.addresses(l)
	if l.Grace < 0 || l.MaxBody < 0 {
		v.add("", "grace or max-body is less than 0", "leave it out")
	}
	if l.Grace == 0 {
		l.Grace = defaultGrace
	}
	if !filepath.IsAbs(l.Control) {
		v.add("control", "is not absolute", "write /run/drydock/shim/NAME.sock")
	}
	if err := v.problems.Err(); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(l.Record) {
		l.Record = filepath.Join(filepath.Dir(file), l.Record)
	}
	if l.record, err = record.Load(l.Record); err != nil {
		return nil, err
	}
	err = l.record.Check(ctx)
	if err == nil {
		v.versions(l)
		err = v.problems.Err()
	}
	if err == nil && l.record.Keeps() {
		var store *kept.Store
		if store, err = kept.Open(l.State); err == nil {
			l.record.KeepIn(func(pair string) rules.Keeper { return store.Pair(pair) })
		}
	}
	if err != nil {
		return nil, errors.Join(err, l.record.Close())
	}
	return l, nil
}

type validator struct {
	document *strictyaml.Document
	problems strictyaml.Problems
}

func (v *validator) add(path, reason, remedy string) {
	v.problems = append(v.problems, v.document.Problem(path, reason, remedy))
}

func (v *validator) addresses(l *loaded) {
	if len(l.Listen) == 0 {
		v.add("listen", "there is no address", "write listen: [{address: ':8081'}]")
	}
	seen := map[string]bool{}
	for i, one := range l.Listen {
		path := fmt.Sprintf("listen[%d]", i)
		if _, err := portOf(one.Address); err != nil {
			v.add(path+".address", err.Error(), "write HOST:PORT, or :PORT for every address")
		}
		if seen[one.Address] {
			v.add(path+".address", "is there twice", "remove one of them")
		}
		seen[one.Address] = true
		if one.Port < 0 || one.Port > 65535 {
			v.add(path+".port", "is no port", "write a number between 1 and 65535, or leave it out")
		}
	}
	v.servers(l)
	for text, version := range l.Clients {
		address, err := netip.ParseAddr(text)
		if err != nil {
			v.add("clients."+text, "is no address", "write an IP address")
		}
		l.clients[address.Unmap()] = version
	}
}

// servers sees that there is one server, or backends with names and addresses of their own.
func (v *validator) servers(l *loaded) {
	if (l.Server == nil) == (len(l.Backends) == 0) {
		v.add("server", "there must be a server, or backends", "write server: {address: '127.0.0.1:8080', version: v1}, or backends:")
	}
	address := func(path, text string) {
		if port, err := portOf(text); err != nil || port == 0 {
			v.add(path, "is no host:port", "write HOST:PORT, where the server listens")
		}
	}
	if l.Server != nil {
		address("server.address", l.Server.Address)
	}
	for i, b := range l.Backends {
		path := fmt.Sprintf("backends[%d]", i)
		address(path+".address", b.Address)
		twice := slices.ContainsFunc(l.Backends[:i], func(other Backend) bool { return other.Name == b.Name || other.Address == b.Address })
		if twice || b.Name == "" {
			v.add(path, "its name or address is there already, or empty", "give each backend its own")
		}
	}
	if l.Traces != "" {
		address("traces", l.Traces)
	}
	if l.Health.Every < 0 || l.Health.Path != "" && l.Health.Path[0] != '/' {
		v.add("health", "is no path, or less than 0", "write health: {path: /healthz, every: 1s}")
	}
}

func (v *validator) versions(l *loaded) {
	known := func(path, version string) {
		if _, err := l.record.Line.Plan(version, version, nil); err != nil {
			v.add(path, err.Error(), "use one of the record's, or add it there")
		}
	}
	if l.Server != nil {
		known("server.version", l.Server.Version)
	}
	for i, b := range l.Backends {
		known(fmt.Sprintf("backends[%d].version", i), b.Version)
	}
	if l.Pass && l.record.Client.Header == "" {
		v.add("pass", "the record has no header that could say the version of a call", "write client.header into the record, or leave pass out")
	}
	switch {
	case l.State == "" && l.record.Keeps():
		v.add("state", "missing, and the record has fields kept", "write state: /var/lib/drydock/shim/NAME, in a volume of the pod")
	case l.State != "" && !filepath.IsAbs(l.State):
		v.add("state", "is not absolute", "write /var/lib/drydock/shim/NAME")
	}
	for text, version := range l.Clients {
		known("clients."+text, version)
	}
}

func portOf(address string) (int, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, fmt.Errorf("%q is no host:port", address)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q has no port", address)
	}
	return int(n), nil
}

// settings are what the proxy is given.
func (l *loaded) settings() proxy.Settings {
	s := proxy.Settings{Record: l.record, Clients: l.clients, MaxBody: l.MaxBody, Tracer: l.tracer, Health: proxy.Health(l.Health), Pass: l.Pass}
	if l.Server != nil {
		s.Server, s.Version = l.Server.Address, l.Server.Version
	}
	for _, b := range l.Backends {
		s.Backends = append(s.Backends, proxy.Backend(b))
	}
	return s
}

// version is that of clients of one address; empty where their port says none.
func (l *loaded) version(one Listen) string {
	port := one.Port
	if port == 0 {
		port, _ = portOf(one.Address) // it was validated
	}
	return l.record.Client.Ports[port]
}

// servers says in few words where calls go.
func (l *loaded) servers() string {
	if l.Server != nil {
		return l.Server.Address
	}
	return fmt.Sprintf("%d backends", len(l.Backends))
}

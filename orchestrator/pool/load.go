package pool

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"drydock/internal/spelling"
	"drydock/internal/strictyaml"
	"drydock/orchestrator/gate"
	"drydock/orchestrator/window"
)

// Load reads a pool's file. What is wrong with it is a Faults; that it cannot be read is another error.
func Load(file string) (*Pool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read pool: %w", err)
	}
	return Parse(file, data)
}

// Parse is Load for what has been read already; file is what faults call it.
func Parse(file string, data []byte) (*Pool, error) {
	p := new(Pool)
	document, err := format().Decode(file, data, p)
	v := &validator{document: document, lines: strings.Split(string(data), "\n"), pool: p}
	var problems strictyaml.Problems
	if errors.As(err, &problems) {
		for _, problem := range problems {
			v.add(problem)
		}
	}
	if document != nil {
		v.all()
	}
	if len(v.faults) > 0 {
		return nil, v.faults.sorted()
	}
	return p, nil
}

// format is that of a pool's file.
func format() strictyaml.Format {
	return strictyaml.Format{
		Empty: "describe a pool; see docs/pools.md", Second: "put each pool in a file of its own",
		Table: "set of labels", Example: "{tier: web}", Quotes: true,
		Unknown: func(key string, known []string) (reason, remedy string) {
			return "is not known", fmt.Sprintf("did you mean `%s`? The keys here are %s", spelling.Nearest(key, known), strings.Join(known, ", "))
		},
	}
}

// Keys are all keys that a pool's file may have, as paths; entries of lists are written name[].
func Keys() []Key { return keysBelow(reflect.TypeFor[Pool](), "") }

// Key is one key, with its default where it has one.
type Key struct{ Path, Default string }

func keysBelow(t reflect.Type, prefix string) []Key {
	var keys []Key
	for field := range t.Fields() {
		path, inner := prefix+field.Tag.Get("yaml"), field.Type
		keys = append(keys, Key{path, field.Tag.Get("default")})
		if inner.Kind() == reflect.Slice && inner.Elem().Kind() == reflect.Struct {
			path += "[]"
			inner = inner.Elem()
		} else if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			keys = append(keys, keysBelow(inner, path+".")...)
		}
	}
	return keys
}

// WindowSet is when the pool's hosts may be started with.
func (p *Pool) WindowSet() window.Set {
	var set window.Set
	for _, w := range p.Windows {
		if parsed, err := w.parse(); err == nil { // a loaded pool has no other
			set = append(set, parsed)
		}
	}
	return set
}

func (w Window) parse() (window.Window, error) {
	zone, err := time.LoadLocation(w.Zone)
	if err != nil {
		return window.Window{}, err
	}
	parsed := window.Window{Zone: zone, MinLeft: w.MinLeft}
	if parsed.Days, err = parseDays(w.Days); err != nil {
		return parsed, err
	}
	if parsed.From, err = window.ParseClock(w.From); err != nil {
		return parsed, err
	}
	parsed.To, err = window.ParseClock(w.To)
	return parsed, err
}

// Spec is the gate as package gate takes it.
func (g Gate) Spec() gate.Spec {
	spec := gate.Spec{Name: g.Name, CEL: g.CEL, Manual: g.Manual, Timeout: g.Timeout}
	if h := g.HTTP; h != nil {
		spec.HTTP = &gate.HTTP{URL: h.URL, Status: h.Status, Contains: h.Contains, TokenFile: h.TokenFile}
	}
	if q := g.Prometheus; q != nil {
		spec.Prometheus = &gate.Prometheus{URL: q.URL, Query: q.Query, Below: q.Below, Above: q.Above, TokenFile: q.TokenFile}
	}
	return spec
}

// HasHost says whether a host of this name and these labels belongs to the pool.
func (p *Pool) HasHost(name string, labels map[string]string) bool {
	for _, n := range p.Hosts.Names {
		if n == name {
			return true
		}
	}
	return len(p.Hosts.Labels) > 0 && carries(labels, p.Hosts.Labels)
}

// Has says whether a pod of this name and these labels belongs to the group.
func (a Apart) Has(name string, labels map[string]string) bool {
	for _, n := range a.Pods {
		if n == name {
			return true
		}
	}
	return len(a.Labels) > 0 && carries(labels, a.Labels)
}

func carries(labels, wanted map[string]string) bool {
	for key, value := range wanted {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}

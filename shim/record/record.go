package record

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"drydock/internal/strictyaml"
	"drydock/shim/chain"
	"drydock/shim/message"
	"drydock/shim/rules"
	"drydock/shim/schema"
)

// Record is a record that has no gaps and whose translators are ready.
type Record struct {
	Spec
	// Line plans chains between the record's versions.
	Line *chain.Line
	// Schemas are the gRPC services of versions that have descriptors.
	Schemas map[string]*schema.Schema

	// Router finds the keys of calls; nil where the record has no routes.
	Router *rules.Router

	document *strictyaml.Document
	pairs    []translators
	modules  []modules
}

// translators are those of one pair; nil where calls pass.
type translators struct{ up, down *rules.Translator }

// name is what services and versions may be called: they become names of metrics, labels and files.
var name = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)

// maxSize is more than a record of hundreds of rules needs.
const maxSize = 1 << 20

// Load parses a file, and the descriptors beside it.
func Load(file string) (*Record, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("upgrade record: %w", err)
	}
	return Parse(file, data, os.DirFS(filepath.Dir(file)))
}

// Parse reads a record, and its descriptors from files. The error is strictyaml.Problems; file is only for their places.
func Parse(file string, data []byte, files fs.FS) (*Record, error) {
	if len(data) > maxSize {
		return nil, strictyaml.Problems{{File: file, Line: 1, Column: 1,
			Reason: fmt.Sprintf("%d bytes are too many for a record", len(data)), Remedy: fmt.Sprintf("keep it below %d", maxSize)}}
	}
	r := &Record{}
	document, err := strictyaml.Decode(file, data, &r.Spec)
	if err != nil {
		return nil, err
	}
	r.document = document
	v := &validator{record: r}
	v.header()
	v.descriptors(files)
	v.order()
	v.protocol()
	v.routes()
	v.gateway()
	r.modules = make([]modules, len(r.Pairs))
	for i := range r.Pairs {
		v.pair(i)
		if r.Stream() {
			v.modules(i, files)
		}
	}
	if len(v.problems) == 0 {
		v.compose()
	}
	strictyaml.Sort(v.problems)
	if err := v.problems.Err(); err != nil {
		_ = r.Close() // what is wrong is more than that
		return nil, err
	}
	links := make([]chain.Link, len(r.pairs))
	for i, p := range r.pairs {
		links[i] = chain.Link{Up: orNil(p.up), Down: orNil(p.down)}
	}
	if r.Line, err = chain.NewLine(r.Service, r.Versions, links); err != nil {
		return nil, err
	}
	return r, nil
}

func orNil(t *rules.Translator) message.Translator {
	if t == nil {
		return nil
	}
	return t
}

// validator collects what is wrong.
type validator struct {
	record   *Record
	problems strictyaml.Problems
}

func (v *validator) add(path, reason, remedy string) {
	v.problems = append(v.problems, v.record.document.Problem(path, reason, remedy))
}

func (v *validator) header() {
	r := v.record
	if !name.MatchString(r.Service) {
		v.add("service", fmt.Sprintf("%q is no name", r.Service), "use small letters, digits, dots and dashes")
	}
	if len(r.Versions) == 0 {
		v.add("versions", "there are none", "name at least one")
	}
	for i, version := range r.Versions {
		path := fmt.Sprintf("versions[%d]", i)
		if !name.MatchString(version) {
			v.add(path, fmt.Sprintf("%q is no name", version), "use small letters, digits, dots and dashes, as v1")
		}
		if slices.Contains(r.Versions[:i], version) {
			v.add(path, fmt.Sprintf("%s is there twice", version), "remove one of them")
		}
	}
	v.known("client.default", r.Client.Default)
	for port, version := range r.Client.Ports {
		path := fmt.Sprintf("client.ports.%d", port)
		v.known(path, version)
		if port < 1 || port > 65535 {
			v.add(path, fmt.Sprintf("%d is no port", port), "write a number between 1 and 65535")
		}
	}
}

func (v *validator) known(path, version string) {
	if !slices.Contains(v.record.Versions, version) {
		v.add(path, fmt.Sprintf("%q is not among the versions", version), "use one of: "+strings.Join(v.record.Versions, ", "))
	}
}

func (v *validator) descriptors(files fs.FS) {
	v.record.Schemas = map[string]*schema.Schema{}
	for version, file := range v.record.Descriptors {
		path := "descriptors." + version
		v.known(path, version)
		if files == nil {
			v.add(path, "no files are given beside the record", "put the descriptors beside it")
			continue
		}
		data, err := fs.ReadFile(files, file)
		if err != nil {
			v.add(path, err.Error(), "name a file beside the record; buf build -o FILE writes it")
			continue
		}
		if v.record.Schemas[version], err = schema.Parse(data); err != nil {
			v.add(path, err.Error(), "write it with buf build -o FILE, or protoc --include_imports --descriptor_set_out FILE")
		}
	}
}

// order finds gaps and pairs that are there twice, and puts the pairs in the order of the versions.
func (v *validator) order() {
	r := v.record
	r.pairs = make([]translators, len(r.Pairs))
	seen := map[string]int{}
	for i, p := range r.Pairs {
		path := fmt.Sprintf("pairs[%d].between", i)
		if len(p.Between) != 2 {
			v.add(path, fmt.Sprintf("names %d versions", len(p.Between)), "write between: [OLDER, NEWER]")
			continue
		}
		older, newer := slices.Index(r.Versions, p.Between[0]), slices.Index(r.Versions, p.Between[1])
		v.known(path+"[0]", p.Between[0])
		v.known(path+"[1]", p.Between[1])
		key := p.Between[0] + " and " + p.Between[1]
		switch first, twice := seen[key]; {
		case older < 0 || newer < 0:
		case newer == older-1:
			v.add(path, fmt.Sprintf("%s is the older one", p.Between[1]), fmt.Sprintf("write between: [%s, %s], and see that up and down are right", p.Between[1], p.Between[0]))
		case newer != older+1:
			v.add(path, key+" are no neighbours", "chains go from neighbour to neighbour: write a pair for each step between them")
		case twice:
			v.add(path, fmt.Sprintf("the pair %s is at pairs[%d] already", key, first), "remove one of them")
		default:
			seen[key] = i
		}
	}
	for i := 1; i < len(r.Versions); i++ {
		key := r.Versions[i-1] + " and " + r.Versions[i]
		at, ok := seen[key]
		if !ok {
			v.add("pairs", "a gap: nothing is said about "+key, fmt.Sprintf("add a pair with between: [%s, %s]", r.Versions[i-1], r.Versions[i]))
		} else if at != i-1 {
			v.add(fmt.Sprintf("pairs[%d].between", at), "the pairs are not in the order of the versions", fmt.Sprintf("move it to place %d", i))
		}
	}
}

func (v *validator) pair(i int) {
	p, path := v.record.Pairs[i], fmt.Sprintf("pairs[%d]", i)
	for j, f := range p.Disallowed.Value {
		if !slices.Contains(p.Between, f.Version) {
			v.add(fmt.Sprintf("%s.disallowed[%d].version", path, j), fmt.Sprintf("%q is not of this pair", f.Version),
				"use one of: "+strings.Join(p.Between, ", "))
		}
	}
	if len(p.Between) == 2 {
		v.record.pairs[i] = translators{
			up: v.translator(path, "up", p.Up, p.Disallowed.Value, p.Between[0]), down: v.translator(path, "down", p.Down, p.Disallowed.Value, p.Between[1]),
		}
	}
	if !p.Transform.None {
		if len(p.Transform.Value.Command) == 0 {
			v.add(path+".transform.command", "is empty", "write command: [PROGRAM, ARGUMENT]")
		}
		if p.Transform.Value.Timeout <= 0 {
			v.add(path+".transform.timeout", "is not more than 0", "write timeout: 5m")
		}
	}
	if !p.Schedule.None {
		v.schedule(path+".schedule", p.Schedule.Value)
	}
	if len(p.Examples) == 0 && !(p.Up.None && p.Down.None) && !v.record.Stream() {
		v.add(path+".examples", "missing", "write a call as both versions see it: name, old and new")
	}
}

func (v *validator) routes() {
	r := v.record
	if len(r.Route) == 0 {
		return
	}
	if r.Stream() {
		v.add("route", "a stream has no calls", "remove it: connections go to any server")
		return
	}
	var problems []rules.Problem
	r.Router, problems = rules.CompileRoutes(r.Route)
	for _, p := range problems {
		v.add("route"+p.Field, p.Reason, p.Remedy)
	}
}

func (v *validator) gateway() {
	g := v.record.Gateway
	if g == nil {
		return
	}
	if v.record.Client.Header == "" {
		v.add("gateway", "the record has no header that tells the servers' shims what a client speaks", "write client.header, or remove the gateway")
	}
	for i, port := range g.Ports {
		if port < 1 || port > 65535 || slices.Contains(g.Ports[:i], port) {
			v.add(fmt.Sprintf("gateway.ports[%d]", i), fmt.Sprintf("%d is no port, or there twice", port), "write a number between 1 and 65535")
		}
	}
	if _, err := netip.ParseAddr(g.Address); g.Address != "" && err != nil {
		v.add("gateway.address", fmt.Sprintf("%q is no address", g.Address), "write an IP address of the pods' network, or leave it out")
	}
	if g.Health != "" && g.Health[0] != '/' {
		v.add("gateway.health", "is no path", "write health: /healthz, or leave it out")
	}
}

// translator compiles one direction with the calls that it disallows: those of the version that its clients speak.
func (v *validator) translator(path, direction string, part Part[Direction], all []rules.Forbidden, version string) *rules.Translator {
	var forbidden []rules.Forbidden
	var places []int
	for i, f := range all {
		if f.Version == version {
			forbidden, places = append(forbidden, f), append(places, i)
		}
	}
	if part.None && len(forbidden) == 0 || v.record.Stream() {
		return nil
	}
	spec := rules.Spec{Rules: part.Value.Rules, Otherwise: part.Value.Otherwise}
	if part.None {
		spec = rules.Spec{Otherwise: "pass"}
	}
	if spec.Otherwise == "" {
		v.add(path+"."+direction+".otherwise", "missing", "write otherwise: pass, or otherwise: refuse, for calls that no rule fits")
		return nil
	}
	t, problems := rules.Compile(spec, forbidden)
	for _, p := range problems {
		field := path + "." + direction + "." + p.Field
		for i, place := range places {
			if rest, ok := strings.CutPrefix(p.Field, fmt.Sprintf("disallowed[%d]", i)); ok {
				field = fmt.Sprintf("%s.disallowed[%d]%s", path, place, rest)
			}
		}
		v.add(field, p.Reason, p.Remedy)
	}
	return t
}

// compose finds calls that one translator makes and the next one of the chain has no rule for.
func (v *validator) compose() {
	pairs := v.record.pairs
	report := func(pair int, direction string, this, next *rules.Translator) {
		if this == nil || next == nil {
			return
		}
		for _, gap := range this.Gaps(next) {
			v.add(fmt.Sprintf("pairs[%d].%s.rules[%d]", pair, direction, gap.Rule), "does not compose: "+gap.Reason,
				"add a rule there, say otherwise: pass there, or disallow the call")
		}
	}
	for i := 1; i < len(pairs); i++ {
		report(i-1, "up", pairs[i-1].up, pairs[i].up)
		report(i, "down", pairs[i].down, pairs[i-1].down)
	}
}

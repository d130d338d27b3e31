package rules

import (
	"net/http"
	"slices"

	"drydock/shim/message"
)

// matcher is a compiled Match with its condition.
type matcher struct {
	methods []string
	path    pattern
	header  map[string]string
	fields  map[string]*message.Value
	when    *condition
}

func compileMatch(m Match, when string) (*matcher, []Problem) {
	var problems []Problem
	add := func(field, reason, remedy string) { problems = append(problems, Problem{field, reason, remedy}) }
	out := &matcher{methods: m.Method, header: map[string]string{}, fields: map[string]*message.Value{}}
	var err error
	if out.path, err = parsePattern(m.Path); err != nil {
		add("match.path", err.Error(), "write it like /orders/{id} or /files/{rest...}")
	}
	for name, value := range m.Header {
		out.header[http.CanonicalHeaderKey(name)] = value
	}
	for name, node := range m.Field {
		value, err := message.FromYAML(&node)
		if err != nil || value == nil || value.Kind() == message.Object || value.Kind() == message.Array {
			add("match.field."+name, "is no single value", "write a text, a number, true, false or null")
			continue
		}
		if a, err := parseAddress(name); err != nil || a.place != inBody {
			add("match.field."+name, "is no field of the body", "write it like customer.name")
			continue
		}
		out.fields[name] = value
	}
	if when != "" {
		if out.when, err = compileCondition(when); err != nil {
			add("when", err.Error(), "correct the condition: CEL over method, path, header, query, vars and body")
		}
	}
	return out, problems
}

// needsBody says that the head of a call does not decide.
func (m *matcher) needsBody() bool {
	return len(m.fields) > 0 || m.when != nil && m.when.readsBody
}

// match says whether a call fits, and what the path's names are in it. An error is a body that cannot be read.
func (m *matcher) match(s *scope) (map[string][]string, bool, error) {
	if len(m.methods) > 0 && !slices.Contains(m.methods, s.request.Method) {
		return nil, false, nil
	}
	vars, ok := m.path.match(s.request.Path)
	if !ok {
		return nil, false, nil
	}
	for name, value := range m.header {
		if got := s.request.Header[name]; len(got) != 1 || got[0] != value {
			return nil, false, nil
		}
	}
	if m.needsBody() && s.request.Stream {
		return nil, false, message.Untranslatablef("a rule looks into the body, and the call is a stream")
	}
	if len(m.fields) > 0 {
		if ok, err := m.matchFields(s); !ok {
			return nil, false, err
		}
	}
	if m.when != nil {
		ok, err := m.when.holds(s, vars)
		return vars, ok, err
	}
	return vars, true, nil
}

func (m *matcher) matchFields(s *scope) (bool, error) {
	root, err := s.request.Body.Value()
	if err != nil {
		return false, err
	}
	for name, want := range m.fields {
		address, err := parseAddress(name)
		if err != nil {
			return false, err
		}
		got := address.inValue(root)
		if got == nil || message.Difference(got, want) != "" {
			return false, nil
		}
	}
	return true, nil
}

// overlaps says whether some call could fit both, as far as can be seen without their conditions.
func (m *matcher) overlaps(o *matcher) bool {
	if len(m.methods) > 0 && len(o.methods) > 0 && !slices.ContainsFunc(m.methods, func(s string) bool { return slices.Contains(o.methods, s) }) {
		return false
	}
	for name, value := range m.header {
		if other, ok := o.header[name]; ok && other != value {
			return false
		}
	}
	for name, value := range m.fields {
		if other, ok := o.fields[name]; ok && message.Difference(other, value) != "" {
			return false
		}
	}
	return m.path.overlaps(o.path)
}

// covers says whether every call that fits o fits m, leaving their conditions aside.
func (m *matcher) covers(o *matcher) bool {
	if len(m.methods) > 0 && (len(o.methods) == 0 || slices.ContainsFunc(o.methods, func(s string) bool { return !slices.Contains(m.methods, s) })) {
		return false
	}
	for name, value := range m.header {
		if other, ok := o.header[name]; !ok || other != value {
			return false
		}
	}
	for name, value := range m.fields {
		if other, ok := o.fields[name]; !ok || message.Difference(other, value) != "" {
			return false
		}
	}
	return m.path.covers(o.path)
}

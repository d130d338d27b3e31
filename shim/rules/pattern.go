package rules

import (
	"fmt"
	"strings"

	"drydock/shim/message"
)

// pattern is a path with names for some of its segments.
type pattern struct {
	segments []segment
	// rest is the name of what follows, with any number of segments; empty where nothing may follow.
	rest string
}

// segment has a name, or else it is literal.
type segment struct{ name, literal string }

func parsePattern(text string) (pattern, error) {
	rest, ok := strings.CutPrefix(text, "/")
	if !ok {
		return pattern{}, fmt.Errorf("path %q does not begin with a slash", text)
	}
	var p pattern
	names := map[string]bool{}
	parts := strings.Split(rest, "/")
	for i, part := range parts {
		name, variable := strings.CutPrefix(part, "{")
		if !variable {
			if strings.ContainsAny(part, "{}?#") {
				return pattern{}, fmt.Errorf("segment %q of path %q has a brace or a mark in it", part, text)
			}
			p.segments = append(p.segments, segment{literal: part})
			continue
		}
		name, closed := strings.CutSuffix(name, "}")
		name, last := strings.CutSuffix(name, "...")
		if !closed || name == "" || strings.ContainsAny(name, "{}.") || names[name] || last && i != len(parts)-1 {
			return pattern{}, fmt.Errorf("segment %q of path %q is not {NAME}, each name once, or {NAME...} at the end", part, text)
		}
		names[name] = true
		if last {
			p.rest = name
			break
		}
		p.segments = append(p.segments, segment{name: name})
	}
	return p, nil
}

// match fills in the names.
func (p pattern) match(path message.Path) (map[string][]string, bool) {
	if len(path) < len(p.segments) || p.rest == "" && len(path) > len(p.segments) {
		return nil, false
	}
	var vars map[string][]string
	set := func(name string, value []string) {
		if vars == nil {
			vars = map[string][]string{}
		}
		vars[name] = value
	}
	for i, s := range p.segments {
		if s.name != "" {
			set(s.name, []string{path[i]})
		} else if s.literal != path[i] {
			return nil, false
		}
	}
	if p.rest != "" {
		set(p.rest, path[len(p.segments):])
	}
	return vars, true
}

// fill makes a path out of the names.
func (p pattern) fill(vars map[string][]string) (message.Path, error) {
	var path message.Path
	for _, s := range p.segments {
		if s.name == "" {
			path = append(path, s.literal)
			continue
		}
		value, ok := vars[s.name]
		if !ok || len(value) != 1 || value[0] == "" {
			return nil, fmt.Errorf("path:%s has no value", s.name)
		}
		path = append(path, value[0])
	}
	if p.rest != "" {
		path = append(path, vars[p.rest]...)
	}
	return path, nil
}

func (p pattern) names() []string {
	var names []string
	for _, s := range p.segments {
		if s.name != "" {
			names = append(names, s.name)
		}
	}
	if p.rest != "" {
		names = append(names, p.rest)
	}
	return names
}

// overlaps says whether some path matches both.
func (p pattern) overlaps(q pattern) bool {
	if len(p.segments) > len(q.segments) {
		p, q = q, p
	}
	if len(p.segments) < len(q.segments) && p.rest == "" {
		return false
	}
	for i, s := range p.segments {
		if t := q.segments[i]; s.name == "" && t.name == "" && s.literal != t.literal {
			return false
		}
	}
	return true
}

// covers says whether every path that matches q matches p.
func (p pattern) covers(q pattern) bool {
	if len(p.segments) > len(q.segments) || p.rest == "" && (q.rest != "" || len(p.segments) != len(q.segments)) {
		return false
	}
	for i, s := range p.segments {
		if t := q.segments[i]; s.name == "" && (t.name != "" || s.literal != t.literal) {
			return false
		}
	}
	return true
}

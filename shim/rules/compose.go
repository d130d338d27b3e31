package rules

import (
	"fmt"
	"slices"
	"strings"

	"drydock/shim/message"
)

// Gap is a call that one translator makes and its successor surely refuses.
type Gap struct {
	// Rule is the index of the rule that makes it.
	Rule   int
	Reason string
}

// Gaps says which rules of t make calls that next, the following translator of a chain, has no rule for. A call that next
// disallows is no gap: it is disallowed for the clients of t too.
func (t *Translator) Gaps(next *Translator) []Gap {
	var gaps []Gap
	for i, r := range t.rules {
		made := r.made()
		if next.pass {
			continue
		}
		found := slices.ContainsFunc(next.forbidden, func(f *forbidden) bool { return f.match.covers(made) })
		for _, n := range next.rules {
			found = found || n.match.path.overlaps(made.path) && methodsMeet(n.match.methods, made.methods)
		}
		if !found {
			gaps = append(gaps, Gap{i, fmt.Sprintf("no rule between the next two versions fits %s, and they refuse what no rule fits", r.call())})
		}
	}
	return gaps
}

// Rules are the names of the rules, in order.
func (t *Translator) Rules() []string {
	names := make([]string, len(t.rules))
	for i, r := range t.rules {
		names[i] = r.name
	}
	return names
}

// Name is that of the rule that took a call; empty where it passed.
func Name(x message.Exchange) string {
	if x, ok := x.(*exchange); ok {
		return x.rule.name
	}
	return ""
}

// made is what is surely known of the calls that a rule makes.
func (r *rule) made() *matcher {
	m := &matcher{methods: r.match.methods, path: r.match.path}
	if r.method != "" {
		m.methods = []string{r.method}
	}
	if r.path != nil {
		m.path = *r.path
	}
	return m
}

func (r *rule) call() string {
	m := r.made()
	var path strings.Builder
	for _, s := range m.path.segments {
		path.WriteString("/" + s.literal)
		if s.name != "" {
			path.WriteString("{" + s.name + "}")
		}
	}
	if m.path.rest != "" {
		path.WriteString("/{" + m.path.rest + "...}")
	}
	return strings.TrimSpace(strings.Join(m.methods, ",") + " " + path.String())
}

func methodsMeet(a, b []string) bool {
	return (&matcher{methods: a, path: pattern{rest: "all"}}).overlaps(&matcher{methods: b, path: pattern{rest: "all"}})
}

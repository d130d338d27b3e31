package rules

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"drydock/shim/message"
)

// Translator is a compiled Spec. It is safe for concurrent use.
type Translator struct {
	rules     []*rule
	forbidden []*forbidden
	pass      bool
	keeper    Keeper
}

var _ message.Translator = (*Translator)(nil)

type rule struct {
	name    string
	match   *matcher
	method  string
	path    *pattern
	request []op
	reply   []op
	failure []op
}

type forbidden struct {
	match  *matcher
	reason string
}

// Compile checks a Spec and makes it a Translator. Problems of rules have paths as rules[0].match.path, those of calls that
// are disallowed as disallowed[0].match.path.
func Compile(spec Spec, disallowed []Forbidden) (*Translator, []Problem) {
	t := &Translator{pass: spec.Otherwise == "pass"}
	c := &compiler{}
	if spec.Otherwise != "pass" && spec.Otherwise != "refuse" {
		c.add("otherwise", fmt.Sprintf("%q is not known", spec.Otherwise), "write pass or refuse")
	}
	for i, r := range spec.Rules {
		c.at(fmt.Sprintf("rules[%d]", i), func(c *compiler) { t.rules = append(t.rules, compileRule(c, r)) })
	}
	for i, f := range disallowed {
		c.at(fmt.Sprintf("disallowed[%d]", i), func(c *compiler) {
			m, problems := compileMatch(f.Match, f.When)
			c.below(problems)
			t.forbidden = append(t.forbidden, &forbidden{m, f.Reason})
		})
	}
	if len(c.problems) == 0 {
		t.ambiguities(c)
	}
	return t, c.problems
}

// below takes over problems whose fields stand below the compiler's path.
func (c *compiler) below(problems []Problem) {
	for _, p := range problems {
		c.add(p.Field, p.Reason, p.Remedy)
	}
}

func compileRule(c *compiler, r Rule) *rule {
	m, problems := compileMatch(r.Match, r.When)
	c.below(problems)
	out := &rule{name: r.Name, match: m, method: r.To.Method}
	if r.To.Path != "" {
		p, err := parsePattern(r.To.Path)
		if err != nil {
			c.add("to.path", err.Error(), "write it like /v2/orders/{id}")
		}
		out.path = &p
	}
	for _, list := range []struct {
		name string
		ops  []Op
		into *[]op
	}{{"request", r.Request, &out.request}, {"reply", r.Reply, &out.reply}, {"failure", r.Failure, &out.failure}} {
		c.at(c.path+"."+list.name, func(c *compiler) { *list.into = c.ops(list.ops, list.name != "request") })
	}
	if out.path != nil {
		for _, name := range out.path.names() {
			if !slices.Contains(m.path.names(), name) && !sets(r.Request, "path:"+name) {
				c.add("to.path", "nothing gives {"+name+"} a value", "name it in match.path, or move a field to path:"+name)
			}
		}
	}
	return out
}

// sets says whether some op gives a field a value.
func sets(ops []Op, field string) bool {
	return slices.ContainsFunc(ops, func(o Op) bool {
		return o.Move != nil && o.Move.To == field || o.Default != nil && o.Default.Field == field ||
			o.Join != nil && o.Join.Into == field || o.Split != nil && slices.Contains(o.Split.Into, field)
	})
}

// ambiguities finds rules that compete for a call. A rule may stand before another that covers it, as its exception, or have
// a condition, so that the order decides.
func (t *Translator) ambiguities(c *compiler) {
	for j, later := range t.rules {
		for i, earlier := range t.rules[:j] {
			if earlier.name == later.name {
				c.add(fmt.Sprintf("rules[%d].name", j), fmt.Sprintf("%q is there twice", later.name), "give each rule a name of its own")
			}
			a, b := earlier.match, later.match
			field := fmt.Sprintf("rules[%d].match", j)
			switch {
			case !a.overlaps(b):
			case a.when == nil && a.covers(b):
				c.add(field, fmt.Sprintf("no call reaches this rule: %q (rules[%d]) takes them all", earlier.name, i), "put it before that rule, or remove it")
			case a.when == nil && !b.covers(a):
				c.add(field, fmt.Sprintf("some calls fit this rule and %q (rules[%d])", earlier.name, i), "narrow one of them, or give the earlier one a condition")
			}
		}
	}
}

// Request translates a call by the first rule that it fits.
func (t *Translator) Request(ctx context.Context, r *message.Request) (message.Exchange, error) {
	s := &scope{request: r}
	for _, f := range t.forbidden {
		_, ok, err := f.match.match(s)
		if err != nil {
			return nil, refusal("disallowed calls", err)
		}
		if ok {
			return nil, &message.Refusal{Why: message.Disallowed, Detail: f.reason}
		}
	}
	for _, one := range t.rules {
		vars, ok, err := one.match.match(s)
		if err != nil {
			return nil, refusal(one.name, err)
		}
		if !ok {
			continue
		}
		s.vars = vars
		if s.vars == nil {
			s.vars = map[string][]string{}
		}
		x := &exchange{rule: one, request: r, vars: s.vars, keeper: t.keeper}
		s.keeper, s.pending = t.keeper, &x.pending
		if err := x.begin(ctx, s); err != nil {
			return nil, refusal(one.name, err)
		}
		return x, nil
	}
	if t.pass {
		return passed{}, nil
	}
	return nil, message.Untranslatablef("no rule fits %s %s", r.Method, r.Path)
}

// refusal makes every failure of a rule a Refusal.
func refusal(rule string, err error) error {
	var r *message.Refusal
	if errors.As(err, &r) {
		return r
	}
	return message.Untranslatablef("%s: %v", rule, strings.ReplaceAll(err.Error(), "\n", " "))
}

package rules

import (
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"

	"drydock/shim/message"
)

// compiler collects everything that is wrong below one path of a Spec.
type compiler struct {
	problems []Problem
	path     string
}

func (c *compiler) add(field, reason, remedy string) {
	if c.path != "" && field != "" {
		field = "." + field
	}
	c.problems = append(c.problems, Problem{c.path + field, reason, remedy})
}

// at is a compiler for what stands below.
func (c *compiler) at(path string, work func(*compiler)) {
	inner := &compiler{path: path}
	work(inner)
	c.problems = append(c.problems, inner.problems...)
}

func (c *compiler) address(field, text string) address {
	a, err := parseAddress(text)
	if err != nil {
		c.add(field, err.Error(), "write customer.name, header:NAME, query:NAME or path:NAME")
	}
	return a
}

func (c *compiler) addresses(field string, texts []string) []address {
	if len(texts) < 2 {
		c.add(field, "names fewer than two fields", "name at least two")
	}
	out := make([]address, len(texts))
	for i, text := range texts {
		out[i] = c.address(fmt.Sprintf("%s[%d]", field, i), text)
	}
	return out
}

// ops compiles a list; reply says that it is for answers.
func (c *compiler) ops(list []Op, reply bool) []op {
	out := make([]op, 0, len(list))
	base := c.path
	for i, one := range list {
		c.path = fmt.Sprintf("%s[%d]", base, i)
		out = append(out, c.op(one, reply))
	}
	c.path = base
	return out
}

func (c *compiler) op(o Op, reply bool) op {
	if set := o.set(); len(set) != 1 {
		c.add("", fmt.Sprintf("has %d changes (%s)", len(set), strings.Join(set, ", ")),
			"write one of rename, move, default, drop, convert, map, split, join, jq, status, keep in each")
		return op{}
	}
	made := c.make(o)
	if o.Status != nil && !reply {
		c.add("status", "a request has no status", "put it below reply or failure")
	}
	if o.In == "" {
		return made
	}
	sel, err := parseSelection(o.In)
	if err != nil {
		c.add("in", err.Error(), "write it like order.items[]")
		return made
	}
	if made.touches&head != 0 {
		c.add("in", "the change is not only in the body", "leave in away, or name fields of the body only")
	}
	return made.each(sel)
}

func (o Op) set() []string {
	var set []string
	for _, one := range []struct {
		name string
		set  bool
	}{
		{"rename", o.Rename != nil}, {"move", o.Move != nil}, {"default", o.Default != nil}, {"drop", o.Drop != nil},
		{"convert", o.Convert != nil}, {"map", o.Map != nil}, {"split", o.Split != nil}, {"join", o.Join != nil},
		{"jq", o.JQ != ""}, {"status", o.Status != nil},
		{"keep", o.Keep != nil},
	} {
		if one.set {
			set = append(set, one.name)
		}
	}
	return set
}

func (c *compiler) make(o Op) op {
	switch {
	case o.Rename != nil:
		from := c.address("rename.from", o.Rename.From)
		to := c.address("rename.to", o.Rename.To)
		if len(from.names) == 0 || len(to.names) != 1 || to.place != inBody || from.place == inPath {
			c.add("rename", "renames a field where it stands", "give to only the new name, or use move")
			return op{}
		}
		name := to.names[0]
		if from.place == inHeader {
			name = http.CanonicalHeaderKey(name)
		}
		return rename(from, name)
	case o.Move != nil:
		return move(c.address("move.from", o.Move.From), c.address("move.to", o.Move.To))
	case o.Default != nil:
		return setDefault(c.address("default.field", o.Default.Field), c.value("default.value", o.Default))
	case o.Drop != nil:
		return drop(c.address("drop.field", o.Drop.Field))
	case o.Convert != nil:
		return c.convert(o.Convert)
	case o.Map != nil:
		return c.mapValues(o.Map)
	case o.Split != nil:
		if o.Split.By == "" {
			c.add("split.by", "is empty", "write what stands between the parts")
		}
		return split(c.address("split.field", o.Split.Field), o.Split.By, c.addresses("split.into", o.Split.Into))
	case o.Join != nil:
		return join(c.addresses("join.fields", o.Join.Fields), o.Join.With, c.address("join.into", o.Join.Into))
	case o.Keep != nil:
		field := c.address("keep.field", o.Keep.Field)
		if field.place != inBody || len(field.names) == 0 {
			c.add("keep.field", "only fields of the body are kept", "write it like order.note")
		}
		return keep(field, c.address("keep.by", o.Keep.By))
	case o.JQ != "":
		made, err := compileJQ(o.JQ)
		if err != nil {
			c.add("jq", err.Error(), "correct the expression; gojq and jq 1.7 speak this language")
		}
		return made
	default:
		for from, to := range o.Status {
			if from < 200 || from > 599 || to < 200 || to > 599 {
				c.add("status", fmt.Sprintf("%d to %d is not between 200 and 599", from, to), "write statuses of HTTP")
			}
		}
		return changeStatus(o.Status)
	}
}

func (c *compiler) value(field string, d *FieldValue) *message.Value {
	v, err := message.FromYAML(&d.Value)
	if err != nil {
		c.add(field, err.Error(), "write the value as in JSON")
	}
	if v == nil {
		v = message.NewNull()
	}
	return v
}

func (c *compiler) convert(o *Convert) op {
	if !slices.Contains([]string{"string", "number", "integer", "boolean"}, o.To) {
		c.add("convert.to", fmt.Sprintf("%q is not known", o.To), "write string, number, integer or boolean")
	}
	var times *big.Rat
	if o.Times != "" {
		r, ok := message.ParseRational(o.Times)
		if !ok || r.Sign() == 0 || o.To == "boolean" {
			c.add("convert.times", fmt.Sprintf("%q cannot be multiplied by", o.Times), "write a number other than 0, as 100 or 0.01")
		}
		times = r
	}
	return convert(c.address("convert.field", o.Field), o.To, times)
}

func (c *compiler) mapValues(o *Map) op {
	values := make(map[string]*message.Value, len(o.Values))
	for key, node := range o.Values {
		v, err := message.FromYAML(&node)
		if err != nil || v == nil {
			c.add("map.values."+key, "is no value of JSON", "write a text, a number, true, false or null")
			continue
		}
		values[key] = v
	}
	if o.Otherwise != "" && o.Otherwise != "refuse" && o.Otherwise != "keep" {
		c.add("map.otherwise", fmt.Sprintf("%q is not known", o.Otherwise), "write refuse or keep")
	}
	return mapValues(c.address("map.field", o.Field), values, o.Otherwise == "keep")
}

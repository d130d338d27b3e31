package rules

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"drydock/shim/message"
)

// where a field is.
type where uint8

const (
	inBody where = iota
	inHeader
	inQuery
	inPath
)

// address is a parsed field of an Op.
type address struct {
	place where
	// names is the way through the body's objects; empty for the whole body. Elsewhere it is one name.
	names []string
}

func parseAddress(text string) (address, error) {
	for prefix, place := range map[string]where{"header:": inHeader, "query:": inQuery, "path:": inPath} {
		if name, ok := strings.CutPrefix(text, prefix); ok {
			if name == "" {
				return address{}, fmt.Errorf("%q names nothing", text)
			}
			if place == inHeader {
				name = http.CanonicalHeaderKey(name)
			}
			return address{place, []string{name}}, nil
		}
	}
	if text == "." {
		return address{}, nil
	}
	names := strings.Split(text, ".")
	if slices.Contains(names, "") {
		return address{}, fmt.Errorf("field %q has an empty name in it", text)
	}
	if strings.Contains(text, "[") {
		return address{}, fmt.Errorf("field %q has a bracket in it: lists are chosen by in", text)
	}
	return address{names: names}, nil
}

func (a address) String() string {
	prefix := [...]string{"", "header:", "query:", "path:"}[a.place]
	if a.place == inBody && len(a.names) == 0 {
		return "the body"
	}
	return prefix + strings.Join(a.names, ".")
}

// inValue is the value at an address of a body, or nil.
func (a address) inValue(root *message.Value) *message.Value {
	for _, name := range a.names {
		if root == nil || root.Kind() != message.Object {
			return nil
		}
		root = root.Get(name)
	}
	return root
}

func (a address) get(s *scope) (*message.Value, error) {
	var values []string
	switch a.place {
	case inBody:
		return a.inValue(s.root), nil
	case inHeader:
		values = s.header()[a.names[0]]
	case inQuery:
		values = s.request.Query[a.names[0]]
	case inPath:
		values = s.vars[a.names[0]]
	}
	switch len(values) {
	case 0:
		return nil, nil
	case 1:
		return message.NewString(values[0]), nil
	default:
		return nil, fmt.Errorf("%s has %d values", a, len(values))
	}
}

// set replaces what is there. Objects on the way are made where they are missing.
func (a address) set(s *scope, v *message.Value) error {
	if a.place != inBody {
		if k := v.Kind(); k == message.Object || k == message.Array || k == message.Null {
			return fmt.Errorf("%s cannot hold %s", a, k)
		}
		return a.setText(s, v.Text())
	}
	if len(a.names) == 0 {
		s.root = v
		return nil
	}
	if s.root == nil {
		s.root = message.NewObject()
	}
	at := s.root
	for i, name := range a.names {
		if at.Kind() != message.Object {
			return fmt.Errorf("%s is %s, and has no field %s", address{names: a.names[:i]}, at.Kind(), name)
		}
		if i == len(a.names)-1 {
			at.Set(name, v)
			return nil
		}
		if at.Get(name) == nil {
			at.Set(name, message.NewObject())
		}
		at = at.Get(name)
	}
	return nil
}

func (a address) setText(s *scope, text string) error {
	if strings.ContainsAny(text, "\r\n\x00") {
		return fmt.Errorf("%s cannot hold a line end", a)
	}
	switch a.place {
	case inHeader:
		s.header()[a.names[0]] = []string{text}
	case inQuery:
		s.request.Query[a.names[0]] = []string{text}
	case inPath:
		s.vars[a.names[0]] = []string{text}
	}
	return nil
}

// remove takes away what is there, and returns it; nil where nothing was.
func (a address) remove(s *scope) (*message.Value, error) {
	v, err := a.get(s)
	if v == nil || err != nil {
		return nil, err
	}
	switch a.place {
	case inHeader:
		delete(s.header(), a.names[0])
	case inQuery:
		delete(s.request.Query, a.names[0])
	case inPath:
		return v, nil // it stays readable: the target's path decides whether it is used
	case inBody:
		if len(a.names) == 0 {
			s.root = nil
			return v, nil
		}
		last := len(a.names) - 1
		address{names: a.names[:last]}.inValue(s.root).Remove(a.names[last])
	}
	return v, nil
}

// take is remove for what goes elsewhere: objects that are emptied by it go too, as set made them.
func (a address) take(s *scope) (*message.Value, error) {
	v, err := a.remove(s)
	if v == nil || err != nil || a.place != inBody {
		return v, err
	}
	for i := len(a.names) - 1; i > 0; i-- {
		if len((address{names: a.names[:i]}).inValue(s.root).Members()) > 0 {
			break
		}
		(address{names: a.names[:i-1]}).inValue(s.root).Remove(a.names[i-1])
	}
	return v, nil
}

// selection is a parsed in: a way through objects and lists.
type selection []selected

type selected struct {
	name string
	each bool
}

func parseSelection(text string) (selection, error) {
	var out selection
	for part := range strings.SplitSeq(text, ".") {
		name, each := strings.CutSuffix(part, "[]")
		if name == "" && !(each && len(out) == 0) || strings.ContainsAny(name, "[]:") {
			return nil, errors.New("is not like order.items[], or [] for a body that is a list")
		}
		out = append(out, selected{name, each})
	}
	return out, nil
}

// objects are those that are chosen; what is absent chooses none, and what is of another kind is an error.
func (sel selection) objects(root *message.Value) ([]*message.Value, error) {
	chosen := []*message.Value{root}
	for _, part := range sel {
		var next []*message.Value
		for _, v := range chosen {
			if part.name != "" {
				if v.Kind() != message.Object {
					return nil, fmt.Errorf("%s is sought in %s", part.name, v.Kind())
				}
				if v = v.Get(part.name); v == nil {
					continue
				}
			}
			if !part.each {
				next = append(next, v)
				continue
			}
			if v.Kind() != message.Array {
				return nil, fmt.Errorf("%s[] is %s, not a list", part.name, v.Kind())
			}
			next = append(next, v.Items()...)
		}
		chosen = next
	}
	return chosen, nil
}

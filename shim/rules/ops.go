package rules

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"drydock/shim/message"
)

// scope is what an op can see of a call.
type scope struct {
	request  *message.Request
	response *message.Response // nil while the request is translated
	vars     map[string][]string
	// root is the body, one message of a stream, or the object that in has chosen; nil where there is none.
	root *message.Value
	// keeper holds fields; pending gets those that a request has, and is nil for messages of streams.
	keeper  Keeper
	pending *[]pending
}

func (s *scope) header() map[string][]string {
	if s.response != nil {
		return s.response.Header
	}
	return s.request.Header
}

// parts of a call that an op touches.
type parts uint8

const (
	head parts = 1 << iota
	body
)

// op is a compiled Op.
type op struct {
	name    string
	touches parts
	apply   func(ctx context.Context, s *scope) error
	// keeps says that the op needs a Keeper.
	keeps bool
}

func (o op) run(ctx context.Context, s *scope) error {
	if err := o.apply(ctx, s); err != nil {
		return fmt.Errorf("%s: %w", o.name, err)
	}
	return nil
}

// each makes an op work in every object that was chosen.
func (o op) each(sel selection) op {
	apply := o.apply
	o.apply = func(ctx context.Context, s *scope) error {
		if s.root == nil {
			return nil
		}
		objects, err := sel.objects(s.root)
		if err != nil {
			return err
		}
		for _, object := range objects {
			inner := *s
			inner.root = object
			if err := apply(ctx, &inner); err != nil {
				return err
			}
			if inner.root == nil {
				return errors.New("the whole of a chosen object cannot be taken away")
			}
			if inner.root != object {
				object.Become(inner.root)
			}
		}
		return nil
	}
	return o
}

func partOf(addresses ...address) parts {
	var p parts
	for _, a := range addresses {
		if a.place == inBody {
			p |= body
		} else {
			p |= head
		}
	}
	return p
}

func rename(from address, to string) op {
	return op{name: "rename " + from.String(), touches: partOf(from), apply: func(_ context.Context, s *scope) error {
		target := address{from.place, append(append([]string{}, from.names[:len(from.names)-1]...), to)}
		v, err := from.get(s)
		if v == nil || err != nil {
			return err
		}
		if err := vacant(s, target); err != nil {
			return err
		}
		if from.place == inBody {
			address{names: from.names[:len(from.names)-1]}.inValue(s.root).Rename(from.names[len(from.names)-1], to)
			return nil
		}
		if _, err := from.remove(s); err != nil {
			return err
		}
		return target.set(s, v)
	}}
}

func move(from, to address) op {
	return op{name: "move " + from.String(), touches: partOf(from, to), apply: func(_ context.Context, s *scope) error {
		v, err := from.take(s)
		if v == nil || err != nil {
			return err
		}
		if len(to.names) > 0 {
			if err := vacant(s, to); err != nil {
				return err
			}
		}
		return to.set(s, v)
	}}
}

func vacant(s *scope, a address) error {
	if v, err := a.get(s); v != nil || err != nil {
		return fmt.Errorf("%s is there already", a)
	}
	return nil
}

func setDefault(a address, value *message.Value) op {
	return op{name: "default " + a.String(), touches: partOf(a), apply: func(_ context.Context, s *scope) error {
		v, err := a.get(s)
		if v != nil || err != nil || a.place == inBody && s.root == nil {
			return err
		}
		return a.set(s, value.Clone())
	}}
}

func drop(a address) op {
	return op{name: "drop " + a.String(), touches: partOf(a), apply: func(_ context.Context, s *scope) error {
		_, err := a.remove(s)
		return err
	}}
}

func mapValues(a address, values map[string]*message.Value, keep bool) op {
	return op{name: "map " + a.String(), touches: partOf(a), apply: func(_ context.Context, s *scope) error {
		v, err := a.get(s)
		if v == nil || err != nil {
			return err
		}
		key := v.Text()
		if v.Kind() == message.Null {
			key = "null"
		}
		to, ok := values[key]
		if !ok && keep {
			return nil
		}
		if !ok || v.Kind() == message.Object || v.Kind() == message.Array {
			return fmt.Errorf("no value is listed for %s", v)
		}
		return a.set(s, to.Clone())
	}}
}

func split(from address, by string, into []address) op {
	return op{name: "split " + from.String(), touches: partOf(from) | partOf(into...), apply: func(_ context.Context, s *scope) error {
		v, err := from.get(s)
		if v == nil || err != nil {
			return err
		}
		if v.Kind() != message.String {
			return fmt.Errorf("it is %s, not a text", v.Kind())
		}
		texts := strings.SplitN(v.Text(), by, len(into))
		if len(texts) < len(into) {
			return fmt.Errorf("%s has %d parts, and %d are needed", v, len(texts), len(into))
		}
		if _, err := from.take(s); err != nil {
			return err
		}
		for i, to := range into {
			if err := vacant(s, to); err != nil {
				return err
			}
			if err := to.set(s, message.NewString(texts[i])); err != nil {
				return err
			}
		}
		return nil
	}}
}

func join(from []address, with string, into address) op {
	return op{name: "join " + into.String(), touches: partOf(into) | partOf(from...), apply: func(_ context.Context, s *scope) error {
		var texts []string
		for _, a := range from {
			v, err := a.get(s)
			if err != nil {
				return err
			}
			if v != nil && v.Kind() != message.String {
				return fmt.Errorf("%s is %s, not a text", a, v.Kind())
			}
			if v != nil {
				texts = append(texts, v.Text())
			}
		}
		if len(texts) == 0 {
			return nil
		}
		if len(texts) < len(from) {
			return errors.New("only some of the fields are there")
		}
		for _, a := range from {
			if _, err := a.take(s); err != nil {
				return err
			}
		}
		if err := vacant(s, into); err != nil {
			return err
		}
		return into.set(s, message.NewString(strings.Join(texts, with)))
	}}
}

func convert(a address, to string, times *big.Rat) op {
	return op{name: "convert " + a.String(), touches: partOf(a), apply: func(_ context.Context, s *scope) error {
		v, err := a.get(s)
		if v == nil || err != nil || v.Kind() == message.Null {
			return err
		}
		made, err := converted(v, to, times)
		if err != nil {
			return err
		}
		return a.set(s, made)
	}}
}

func changeStatus(codes map[int]int) op {
	return op{name: "status", touches: head, apply: func(_ context.Context, s *scope) error {
		if to, ok := codes[s.response.Status]; ok {
			s.response.Status = to
		}
		return nil
	}}
}

package rules

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"drydock/shim/message"
)

// Keeper holds fields that a server of the other version cannot store. It must be safe for concurrent use.
type Keeper interface {
	// Keep replaces what is kept of a thing's field; nil forgets it. It is durable when no error comes back.
	Keep(field, key string, v *message.Value) error
	// Kept is what is kept, or nil.
	Kept(field, key string) (*message.Value, error)
}

// KeepIn says who holds fields. It must be called before the first Request.
func (t *Translator) KeepIn(k Keeper) { t.keeper = k }

// Keeps says whether any rule keeps a field.
func (t *Translator) Keeps() bool {
	keeps := func(o op) bool { return o.keeps }
	return slices.ContainsFunc(t.rules, func(r *rule) bool {
		return slices.ContainsFunc(r.request, keeps) || slices.ContainsFunc(r.reply, keeps) || slices.ContainsFunc(r.failure, keeps)
	})
}

// pending is a field that is kept when the server has taken the call.
type pending struct {
	field, key string
	value      *message.Value
}

// keep takes a field out of a request that writes, so that it is kept with the call's success; without the field, what was kept is
// forgotten then.
// It puts the field into an answer that lacks it.
func keep(field, by address) op {
	o := op{name: "keep " + field.String(), touches: partOf(field, by), keeps: true}
	o.apply = func(_ context.Context, s *scope) error {
		if s.keeper == nil {
			return errors.New("nobody keeps fields here")
		}
		key, err := by.get(s)
		if err != nil {
			return err
		}
		if key == nil || key.Kind() == message.Object || key.Kind() == message.Array || key.Kind() == message.Null {
			return fmt.Errorf("%s does not tell whose field it is", by)
		}
		if s.response == nil && (s.request.Method == http.MethodGet || s.request.Method == http.MethodHead) {
			return nil // it changes nothing
		}
		if s.response == nil {
			return s.later(field, key.Text())
		}
		if s.root == nil || field.inValue(s.root) != nil {
			return nil
		}
		v, err := s.keeper.Kept(field.String(), key.Text())
		if v == nil || err != nil {
			return err
		}
		return field.set(s, v)
	}
	return o
}

// later notes what is to be kept.
func (s *scope) later(field address, key string) error {
	if s.pending == nil {
		return errors.New("a message of a request's stream cannot have a field that is kept")
	}
	v, err := field.take(s)
	if err == nil {
		*s.pending = append(*s.pending, pending{field.String(), key, v})
	}
	return err
}

// settle keeps what the server's success has made true.
func (x *exchange) settle(status int) error {
	if status >= 400 {
		return nil
	}
	for _, p := range x.pending {
		if err := x.keeper.Keep(p.field, p.key, p.value); err != nil {
			return fmt.Errorf("keep %s: %w", p.field, err)
		}
	}
	return nil
}

package rules

import (
	"context"
	"errors"
	"slices"

	"drydock/shim/message"
)

// exchange is a call that a rule has taken.
type exchange struct {
	rule    *rule
	request *message.Request
	vars    map[string][]string
	// answers are the rule's ops for the answer's status, known when it has come.
	answers []op
	keeper  Keeper
	pending []pending
}

func (x *exchange) begin(ctx context.Context, s *scope) error {
	r := x.request
	if err := run(ctx, x.rule.request, s, &r.Body, r.Stream); err != nil {
		return err
	}
	if x.rule.method != "" {
		r.Method = x.rule.method
	}
	if x.rule.path != nil {
		path, err := x.rule.path.fill(s.vars)
		if err != nil {
			return err
		}
		r.Path = path
	}
	return nil
}

// run makes changes to a head and to the body that belongs to it. Those to the body wait for its messages where it streams.
func run(ctx context.Context, ops []op, s *scope, b *message.Body, stream bool) error {
	if stream {
		return runHead(ctx, ops, s)
	}
	if !slices.ContainsFunc(ops, func(o op) bool { return o.touches&body != 0 }) {
		return runHead(ctx, ops, s)
	}
	root, err := b.Value()
	if err != nil {
		return err
	}
	s.root = root
	for _, o := range ops {
		if err := o.run(ctx, s); err != nil {
			return err
		}
	}
	if s.root != root {
		b.Set(s.root)
	}
	return nil
}

func runHead(ctx context.Context, ops []op, s *scope) error {
	for _, o := range ops {
		if o.touches == head|body {
			return errors.New(o.name + " needs head and body at once, and the call is a stream")
		}
		if o.touches == head {
			if err := o.run(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// Item translates one message of the request's stream.
func (x *exchange) Item(ctx context.Context, v *message.Value) error {
	return x.item(ctx, x.rule.request, nil, v)
}

// ReplyItem translates one message of the response's stream.
func (x *exchange) ReplyItem(ctx context.Context, v *message.Value) error {
	return x.item(ctx, x.answers, &message.Response{}, v)
}

// item works on one message; answer is nil for those of requests.
func (x *exchange) item(ctx context.Context, ops []op, answer *message.Response, v *message.Value) error {
	s := &scope{request: x.request, response: answer, vars: x.vars, root: v, keeper: x.keeper}
	for _, o := range ops {
		if o.touches == head {
			continue
		}
		if err := o.run(ctx, s); err != nil {
			return refusal(x.rule.name, err)
		}
	}
	if s.root == nil {
		return refusal(x.rule.name, errors.New("a message of a stream cannot be taken away"))
	}
	if s.root != v {
		v.Become(s.root)
	}
	return nil
}

// Response translates the answer back.
func (x *exchange) Response(ctx context.Context, r *message.Response) error {
	x.answers = x.rule.reply
	if r.Status >= 400 {
		x.answers = x.rule.failure
	}
	if err := x.settle(r.Status); err != nil {
		return refusal(x.rule.name, err)
	}
	s := &scope{request: x.request, response: r, vars: x.vars, keeper: x.keeper}
	if err := run(ctx, x.answers, s, &r.Body, r.Stream); err != nil {
		return refusal(x.rule.name, err)
	}
	return nil
}

// Touches says whether messages of streams are changed.
func (x *exchange) Touches() (items, replies bool) {
	changes := func(o op) bool { return o.touches&body != 0 }
	return slices.ContainsFunc(x.rule.request, changes), slices.ContainsFunc(x.rule.reply, changes) || slices.ContainsFunc(x.rule.failure, changes)
}

// passed is a call that means the same in both versions.
type passed struct{}

func (passed) Item(context.Context, *message.Value) error        { return nil }
func (passed) Response(context.Context, *message.Response) error { return nil }
func (passed) ReplyItem(context.Context, *message.Value) error   { return nil }
func (passed) Touches() (items, replies bool)                    { return false, false }

package chain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/shim/message"
)

// Link is what lies between a version and the next.
type Link struct {
	// Up takes clients of the older version to servers of the newer one. Down takes clients of the newer to servers of the
	// older. Nil says that calls mean the same in both.
	Up, Down message.Translator
}

// Line is a service's versions in order, and what lies between them.
type Line struct {
	service  string
	versions []string
	links    []Link
}

// NewLine needs a link between each two versions, and versions with different names.
func NewLine(service string, versions []string, links []Link) (*Line, error) {
	if len(versions) == 0 || len(links) != len(versions)-1 {
		return nil, fmt.Errorf("service %s: %d versions and %d links between them", service, len(versions), len(links))
	}
	for i, v := range versions {
		if v == "" || slices.Contains(versions[:i], v) {
			return nil, fmt.Errorf("service %s: version %q is empty or there twice", service, v)
		}
	}
	return &Line{service: service, versions: slices.Clone(versions), links: slices.Clone(links)}, nil
}

// Versions are the line's, the oldest first.
func (l *Line) Versions() []string { return slices.Clone(l.versions) }

// UnknownVersionError is a version that the service's record does not have.
type UnknownVersionError struct {
	Service, Version string
	Known            []string
}

func (e *UnknownVersionError) Error() string {
	return fmt.Sprintf("service %s has no version %q; its record has %s", e.Service, e.Version, strings.Join(e.Known, ", "))
}

// Chain is a plan from a client's version to a server's. It is safe for concurrent use.
type Chain struct {
	service        string
	client, server string
	steps          []Step
	counter        *Counter
}

// Step is one translator of a chain.
type Step struct {
	From, To   string
	translator message.Translator
	hop        *hop
}

// Plan makes the chain from a client's version to a server's. Calls through it are counted in counter, which may be nil.
func (l *Line) Plan(client, server string, counter *Counter) (*Chain, error) {
	from, to := slices.Index(l.versions, client), slices.Index(l.versions, server)
	for i, version := range []string{client, server} {
		if []int{from, to}[i] < 0 {
			return nil, &UnknownVersionError{l.service, version, l.Versions()}
		}
	}
	c := &Chain{service: l.service, client: client, server: server, counter: counter}
	for at := from; at < to; at++ {
		c.steps = append(c.steps, Step{l.versions[at], l.versions[at+1], l.links[at].Up, counter.hop(l.versions[at], l.versions[at+1])})
	}
	for at := from; at > to; at-- {
		c.steps = append(c.steps, Step{l.versions[at], l.versions[at-1], l.links[at-1].Down, counter.hop(l.versions[at], l.versions[at-1])})
	}
	return c, nil
}

// Steps are in the order in which a request goes through them. A chain without steps, between equal versions, changes nothing.
func (c *Chain) Steps() []Step { return slices.Clone(c.steps) }

// Server is the version that the chain leads to.
func (c *Chain) Server() string { return c.server }

// Exchange is one call that is under way through a chain.
type Exchange struct {
	chain *Chain
	// done are the steps that the request went through.
	done  []message.Exchange
	watch Watch
}

var _ message.Exchange = (*Exchange)(nil)

// Request takes a request to the server's version, in place. The error is a *message.Refusal, and the request has not been made.
func (c *Chain) Request(ctx context.Context, r *message.Request) (*Exchange, error) {
	x := &Exchange{chain: c, done: make([]message.Exchange, 0, len(c.steps)), watch: watchOf(ctx)}
	for i, step := range c.steps {
		if step.translator == nil {
			x.done = append(x.done, nil)
			continue
		}
		var exchange message.Exchange
		err := c.pass(i, x.watch, "request", func() View { return viewOfRequest(r) }, func() (err error) {
			exchange, err = step.translator.Request(ctx, r)
			return err
		})
		if err != nil {
			return nil, c.refuse(i, err, false)
		}
		x.done = append(x.done, exchange)
	}
	if len(c.steps) == 0 {
		c.count(Passed)
	} else {
		c.count(Translated)
	}
	return x, nil
}

// Item takes one message of the request's stream to the server's version.
func (x *Exchange) Item(ctx context.Context, v *message.Value) error {
	for i, step := range x.done {
		if step == nil {
			continue
		}
		err := x.chain.pass(i, x.watch, "message", func() View { return viewOfMessage(v) }, func() error { return step.Item(ctx, v) })
		if err != nil {
			return x.chain.refuse(i, err, false)
		}
	}
	return nil
}

// Response takes the server's answer back to the client's version.
func (x *Exchange) Response(ctx context.Context, r *message.Response) error {
	return x.back("answer", func() View { return viewOfAnswer(r) }, func(step message.Exchange) error { return step.Response(ctx, r) })
}

// ReplyItem takes one message of the response's stream back.
func (x *Exchange) ReplyItem(ctx context.Context, v *message.Value) error {
	return x.back("answer-message", func() View { return viewOfMessage(v) }, func(step message.Exchange) error { return step.ReplyItem(ctx, v) })
}

func (x *Exchange) back(part string, view func() View, translate func(message.Exchange) error) error {
	for i, step := range slices.Backward(x.done) {
		if step == nil {
			continue
		}
		if err := x.chain.pass(i, x.watch, part, view, func() error { return translate(step) }); err != nil {
			return x.chain.refuse(i, err, true)
		}
	}
	return nil
}

// Touches says whether any step changes messages of streams.
func (x *Exchange) Touches() (items, replies bool) {
	for _, step := range x.done {
		if step != nil {
			i, r := step.Touches()
			items, replies = items || i, replies || r
		}
	}
	return items, replies
}

// Refuse makes a failure outside of the steps - a body that cannot be read, a message that is too large - a refusal of the
// whole chain, and counts it. One that a step has made stays as it is, and is counted already.
func (c *Chain) Refuse(err error, answered bool) *message.Refusal {
	var refusal *message.Refusal
	if !errors.As(err, &refusal) {
		refusal = message.Untranslatablef("%v", err)
	}
	if refusal.Service != "" {
		return refusal
	}
	placed := *refusal
	placed.Service, placed.From, placed.To, placed.Answered = c.service, c.client, c.server, answered
	c.count(Untranslatable)
	return &placed
}

// refuse fills in where a call was refused, and counts it.
func (c *Chain) refuse(step int, err error, answered bool) error {
	var refusal *message.Refusal
	if !errors.As(err, &refusal) {
		refusal = message.Untranslatablef("%v", err)
	}
	placed := *refusal
	placed.Service, placed.From, placed.To = c.service, c.steps[step].From, c.steps[step].To
	placed.Answered = answered
	if placed.Why == message.Disallowed {
		c.count(Disallowed)
	} else {
		c.count(Untranslatable)
	}
	return &placed
}

// Count counts a call of a protocol that the steps do not translate themselves.
func (c *Chain) Count(o Outcome) { c.count(o) }

// Took notes how long such a call took in all steps together; each gets an equal part.
func (c *Chain) Took(d time.Duration) {
	for _, step := range c.steps {
		step.hop.took(d / time.Duration(len(c.steps)))
	}
}

func (c *Chain) count(o Outcome) {
	if c.counter != nil {
		c.counter.add(c.client, c.server, o)
	}
}

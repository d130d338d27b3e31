package record

import (
	"context"
	"errors"
	"fmt"

	"drydock/internal/strictyaml"
	"drydock/shim/message"
	"drydock/shim/rules"

	"go.yaml.in/yaml/v3"
)

// Check runs the record's examples: each call in the directions that it is for, there and back, and on to the ends of the
// line of versions. It also finds rules that no example goes through. The error is strictyaml.Problems.
func (r *Record) Check(ctx context.Context) error {
	v := &validator{record: r}
	for i := range r.Pairs {
		c := &checker{validator: v, pair: i, reached: map[string]map[string]bool{"up": {}, "down": {}}}
		for j := range r.Pairs[i].Examples {
			c.example(ctx, j)
		}
		c.transcripts(ctx)
		c.untried("up", r.pairs[i].up)
		c.untried("down", r.pairs[i].down)
	}
	strictyaml.Sort(v.problems)
	return v.problems.Err()
}

// checker runs the examples of one pair.
type checker struct {
	*validator
	pair int
	// reached are the names of rules that examples went through, by direction.
	reached map[string]map[string]bool
	at      string
}

func (c *checker) example(ctx context.Context, j int) {
	e := c.record.Pairs[c.pair].Examples[j]
	c.keep(fmt.Sprintf("pairs[%d].examples[%d]", c.pair, j), e.Kept)
	c.at = fmt.Sprintf("pairs[%d].examples[%d]", c.pair, j)
	if e.Direction == "" {
		e.Direction = "both"
	}
	if e.Direction != "both" && e.Direction != "up" && e.Direction != "down" {
		c.add(c.at+".direction", fmt.Sprintf("%q is not known", e.Direction), "write up, down or both")
		return
	}
	if e.Refused != "" {
		c.refused(ctx, e)
		return
	}
	for side, call := range map[string]*Call{"old": e.Old, "new": e.New} {
		if call == nil {
			c.add(c.at+"."+side, "missing", "write the call as that version sees it")
		} else if call.Reply == nil {
			c.add(c.at+"."+side+".reply", "missing", "write reply: {status: 200}")
		}
	}
	if e.Old == nil || e.New == nil || e.Old.Reply == nil || e.New.Reply == nil {
		return
	}
	c.described(e)
	lost := ""
	for _, w := range c.ways(e) {
		c.keep(c.at, e.Kept)
		c.golden(ctx, w)
		c.keep(c.at, e.Kept)
		if loss := c.loss(ctx, w); loss != "" {
			lost = fmt.Sprintf("the round trip %s and back loses something: %s", w.name, loss)
		}
		c.onward(ctx, w)
	}
	if lost != "" && e.Lossy == "" {
		c.add(c.at, lost, "correct the rules, or write lossy: and what is lost")
	}
	if lost == "" && e.Lossy != "" {
		c.add(c.at+".lossy", "nothing is lost", "remove it")
	}
}

// way is one direction of an example.
type way struct {
	name, fromSide, toSide string
	from, to               *Call
	there, back            *rules.Translator
}

func (c *checker) ways(e Example) []way {
	t := c.record.pairs[c.pair]
	up := way{"up", "old", "new", e.Old, e.New, orPass(t.up), orPass(t.down)}
	down := way{"down", "new", "old", e.New, e.Old, orPass(t.down), orPass(t.up)}
	switch e.Direction {
	case "up":
		return []way{up}
	case "down":
		return []way{down}
	default:
		return []way{up, down}
	}
}

// described writes bodies of gRPC calls by the descriptors of their version, where it has some.
func (c *checker) described(e Example) {
	for i, call := range []*Call{e.Old, e.New} {
		s := c.record.Schemas[c.record.Pairs[c.pair].Between[i]]
		request, err := makeRequest(call.Request)
		if s == nil || err != nil {
			continue
		}
		method, ok := s.Method(request.Path)
		if !ok {
			continue
		}
		side := c.at + "." + []string{"old", "new"}[i]
		if err := written(&call.Request.Body, method.Request); err != nil {
			c.add(side+".request.body", err.Error(), "write it as protobuf's JSON, with the names of the .proto file")
		}
		if err := written(&call.Reply.Body, method.Reply); err != nil {
			c.add(side+".reply.body", err.Error(), "write it as protobuf's JSON, with the names of the .proto file")
		}
	}
}

func written(node *yaml.Node, codec message.Codec) error {
	v, err := message.FromYAML(node)
	if err == nil {
		_, err = codec.Encode(v)
	}
	return err
}

// golden compares what the translator makes with what the example says.
func (c *checker) golden(ctx context.Context, w way) {
	request, wantRequest, ok := c.requests(w)
	if !ok {
		return
	}
	x, err := w.there.Request(ctx, request)
	if err != nil {
		c.add(c.at+"."+w.fromSide+".request", fmt.Sprintf("on the way %s: %v", w.name, reason(err)), "correct the rule or the example")
		return
	}
	c.reached[w.name][rules.Name(x)] = true
	c.differs(w, w.toSide+".request", differentRequests(request, wantRequest))
	reply, err := makeReply(w.to.Reply)
	wantReply, wantErr := makeReply(w.from.Reply)
	if err := errors.Join(err, wantErr); err != nil {
		c.add(c.at, err.Error(), "write bodies as in JSON")
		return
	}
	if err := x.Response(ctx, reply); err != nil {
		c.add(c.at+"."+w.toSide+".reply", fmt.Sprintf("on the way %s: %v", w.name, reason(err)), "correct the rule or the example")
		return
	}
	c.differs(w, w.fromSide+".reply", differentReplies(reply, wantReply))
}

func (c *checker) differs(w way, where, difference string) {
	if difference != "" {
		c.add(c.at+"."+where, fmt.Sprintf("a wrong example: on the way %s %s", w.name, difference), "correct the rule or the example")
	}
}

// loss takes the example's first side to the other version and back again, and is what that changes. What golden has
// reported is not reported again.
func (c *checker) loss(ctx context.Context, w way) string {
	request, _, ok := c.requests(w)
	want, wantErr := makeRequest(w.from.Request)
	reply, err := makeReply(w.from.Reply)
	wantReply, wantReplyErr := makeReply(w.from.Reply)
	if !ok || errors.Join(wantErr, err, wantReplyErr) != nil {
		return ""
	}
	there, err := w.there.Request(ctx, request)
	if err != nil {
		return ""
	}
	back, err := w.back.Request(ctx, request)
	if err != nil {
		return reason(err)
	}
	if d := differentRequests(request, want); d != "" {
		return d
	}
	for _, x := range []message.Exchange{back, there} {
		if err := x.Response(ctx, reply); err != nil {
			return reason(err)
		}
	}
	return differentReplies(reply, wantReply)
}

// onward takes the call on, from neighbour to neighbour, to the end of the line.
func (c *checker) onward(ctx context.Context, w way) {
	versions := c.record.Versions
	start, end := versions[c.pair], versions[len(versions)-1]
	if w.name == "down" {
		start, end = versions[c.pair+1], versions[0]
	}
	plan, err := c.record.Line.Plan(start, end, nil)
	request, _, ok := c.requests(w)
	if err != nil || !ok {
		return
	}
	_, err = plan.Request(ctx, request)
	var refusal *message.Refusal
	if errors.As(err, &refusal) && refusal.Why == message.Untranslatable && refusal.From != start {
		c.add(c.at, fmt.Sprintf("does not compose: between %s and %s: %s", refusal.From, refusal.To, refusal.Detail),
			"add a rule there for what this one makes, or disallow the call")
	}
}

func (c *checker) refused(ctx context.Context, e Example) {
	t := c.record.pairs[c.pair]
	call, translator, side, other := e.Old, orPass(t.up), "old", e.New
	if e.Old == nil {
		call, translator, side, other = e.New, orPass(t.down), "new", nil
	}
	if call == nil || other != nil || e.Lossy != "" {
		c.add(c.at, "a refused call has one side only, and loses nothing", "write old: or new:, with its request")
		return
	}
	if e.Refused != string(message.Disallowed) && e.Refused != string(message.Untranslatable) {
		c.add(c.at+".refused", fmt.Sprintf("%q is not known", e.Refused), "write disallowed or untranslatable")
		return
	}
	request, err := makeRequest(call.Request)
	if err != nil {
		c.add(c.at+"."+side+".request", err.Error(), "correct it")
		return
	}
	_, err = translator.Request(ctx, request)
	var refusal *message.Refusal
	switch {
	case err == nil:
		c.add(c.at+".refused", "a wrong example: the call is taken", "disallow it, or say what it becomes")
	case errors.As(err, &refusal) && string(refusal.Why) != e.Refused:
		c.add(c.at+".refused", "a wrong example: the call is "+string(refusal.Why)+": "+refusal.Detail, "correct the rule or the example")
	}
}

func (c *checker) untried(direction string, t *rules.Translator) {
	if t == nil {
		return
	}
	for i, name := range t.Rules() {
		if !c.reached[direction][name] {
			c.add(fmt.Sprintf("pairs[%d].%s.rules[%d].name", c.pair, direction, i), "no example goes through this rule",
				fmt.Sprintf("add one below pairs[%d].examples", c.pair))
		}
	}
}

func (c *checker) requests(w way) (from, to *message.Request, ok bool) {
	from, err := makeRequest(w.from.Request)
	if err != nil {
		c.add(c.at+"."+w.fromSide+".request", err.Error(), "correct it")
		return nil, nil, false
	}
	if to, err = makeRequest(w.to.Request); err != nil {
		c.add(c.at+"."+w.toSide+".request", err.Error(), "correct it")
		return nil, nil, false
	}
	return from, to, true
}

func reason(err error) string {
	var r *message.Refusal
	if errors.As(err, &r) {
		return string(r.Why) + ": " + r.Detail
	}
	return err.Error()
}

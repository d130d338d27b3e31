package record

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/docker/go-units"

	"drydock/shim/chain"
	"drydock/shim/message"
	"drydock/shim/module"
)

// modules are those of one pair; nil where bytes pass.
type modules struct{ up, down *module.Module }

// Stream says that connections are translated by modules, byte by byte, instead of calls by rules.
func (r *Record) Stream() bool { return r.Protocol == "stream" }

// Close lets go of the record's modules. Connections that use them go on.
func (r *Record) Close() error {
	var errs []error
	for _, m := range r.modules {
		for _, one := range []*module.Module{m.up, m.down} {
			if one != nil {
				errs = append(errs, one.Close())
			}
		}
	}
	return errors.Join(errs...)
}

// Steps are the modules between two versions, in the order in which a client's bytes go through them.
func (r *Record) Steps(client, server string) ([]module.Step, error) {
	plan, err := r.Line.Plan(client, server, nil)
	if err != nil {
		return nil, err
	}
	var steps []module.Step
	for _, s := range plan.Steps() {
		from, to := slices.Index(r.Versions, s.From), slices.Index(r.Versions, s.To)
		one := module.Step{From: s.From, To: s.To, Module: r.modules[min(from, to)].up, Down: to < from}
		if one.Down {
			one.Module = r.modules[to].down
		}
		steps = append(steps, one)
	}
	return steps, nil
}

// Fault is what a client of a version is sent where a module between it and a server breaks.
func (r *Record) Fault(client, server string) string {
	from, to := slices.Index(r.Versions, client), slices.Index(r.Versions, server)
	if from < 0 || to < 0 || from == to {
		return ""
	}
	part := r.Pairs[from-1+max(0, min(1, to-from))]
	direction := part.Up
	if to < from {
		direction = part.Down
	}
	if direction.Value.Module == nil {
		return ""
	}
	return direction.Value.Module.Fault
}

// protocol finds what does not go together with it.
func (v *validator) protocol() {
	r := v.record
	if r.Protocol != "" && r.Protocol != "http" && !r.Stream() {
		v.add("protocol", fmt.Sprintf("%q is not known", r.Protocol), "write http or stream")
		return
	}
	if r.Stream() && r.Client.Header != "" {
		v.add("client.header", "a stream has no header", "remove it; clients are known by address, port or default")
	}
	for i, p := range r.Pairs {
		path := fmt.Sprintf("pairs[%d]", i)
		for name, part := range map[string]Part[Direction]{"up": p.Up, "down": p.Down} {
			direction := path + "." + name
			switch has := part.Value.Module != nil; {
			case has && !r.Stream():
				v.add(direction+".module", "calls of HTTP are translated by rules", "write rules, or protocol: stream")
			case r.Stream() && !part.None && !has:
				v.add(direction, "a stream is translated by a module", fmt.Sprintf("write %s: {module: {file: FILE}}, or %s: none", name, name))
			case has && (len(part.Value.Rules) > 0 || part.Value.Otherwise != ""):
				v.add(direction, "has a module, and rules too", "leave only the module")
			}
		}
		switch {
		case r.Stream() && !p.Disallowed.None:
			v.add(path+".disallowed", "the module says what is disallowed", "write disallowed: none")
		case r.Stream() && len(p.Examples) > 0:
			v.add(path+".examples", "a stream has no calls", "write transcripts:")
		case !r.Stream() && len(p.Transcripts) > 0:
			v.add(path+".transcripts", "only streams have them", "write examples:")
		case r.Stream() && len(p.Transcripts) == 0 && !(p.Up.None && p.Down.None):
			v.add(path+".transcripts", "missing", "write what both versions send and get: name, old and new")
		}
	}
}

// modules compiles those of one pair; one that serves both directions with the same limits only once.
func (v *validator) modules(i int, files fs.FS) {
	p, path := v.record.Pairs[i], fmt.Sprintf("pairs[%d]", i)
	up, down := p.Up.Value.Module, p.Down.Value.Module
	made := &v.record.modules[i]
	made.up = v.module(path+".up.module", up, files)
	if up != nil && down != nil && up.File == down.File && up.Memory == down.Memory && up.Time == down.Time {
		made.down = made.up
		return
	}
	made.down = v.module(path+".down.module", down, files)
}

func (v *validator) module(path string, m *Module, files fs.FS) *module.Module {
	if m == nil {
		return nil
	}
	limits := module.Limits{Time: m.Time}
	if m.Memory != "" {
		var err error
		if limits.Memory, err = units.RAMInBytes(m.Memory); err != nil || limits.Memory < 64<<10 || limits.Memory > 4<<30 {
			v.add(path+".memory", fmt.Sprintf("%q is no size", m.Memory), "write a size between 64KiB and 4GiB, as 32MiB")
			return nil
		}
	}
	if m.Time < 0 {
		v.add(path+".time", "is less than 0", "write how long one piece of data may take, as 1s")
	}
	if files == nil {
		v.add(path+".file", "no files are given beside the record", "put the module beside it")
		return nil
	}
	code, err := fs.ReadFile(files, m.File)
	if err != nil {
		v.add(path+".file", err.Error(), "name a file beside the record, and build it first")
		return nil
	}
	loaded, err := module.Load(context.Background(), m.File, code, limits)
	if err != nil {
		v.add(path+".file", err.Error(), "build it by the interface that docs/shim.md tells of, or give it more memory")
		return nil
	}
	return loaded
}

// transcripts runs those of one pair.
func (c *checker) transcripts(ctx context.Context) {
	for j, e := range c.record.Pairs[c.pair].Transcripts {
		c.at = fmt.Sprintf("pairs[%d].transcripts[%d]", c.pair, j)
		if !slices.Contains([]string{"", "both", "up", "down"}, e.Direction) {
			c.add(c.at+".direction", fmt.Sprintf("%q is not known", e.Direction), "write up, down or both")
			continue
		}
		if e.Refused != "" {
			c.refusedTranscript(ctx, e)
			continue
		}
		if e.Old == nil || e.New == nil {
			c.add(c.at, "has one side only", "write old and new: what each version's client sends and gets")
			continue
		}
		if e.Direction != "down" {
			c.spoken(ctx, "up", "old", "new", e.Old, e.New)
		}
		if e.Direction != "up" {
			c.spoken(ctx, "down", "new", "old", e.New, e.Old)
		}
	}
}

// pipe is the pair's translator in one direction.
func (c *checker) pipe(ctx context.Context, direction string) *module.Pipe {
	between := c.record.Pairs[c.pair].Between
	client, server := between[0], between[1]
	if direction == "down" {
		client, server = server, client
	}
	steps, err := c.record.Steps(client, server)
	if err == nil {
		var p *module.Pipe
		if p, err = module.Open(ctx, steps); err == nil {
			return p
		}
	}
	c.add(c.at, err.Error(), "correct the module")
	return nil
}

// spoken compares what a module makes with what a transcript says.
func (c *checker) spoken(ctx context.Context, direction, from, to string, client, server *Spoken) {
	p := c.pipe(ctx, direction)
	if p == nil {
		return
	}
	defer p.Close()
	out, err := p.Data(ctx, module.ClientSide, []byte(client.Sends))
	gets := out.ToClient
	if err == nil {
		c.compare(to+".sends", direction, out.ToServer, server.Sends)
		out, err = p.Data(ctx, module.ServerSide, []byte(server.Gets))
		gets = append(gets, out.ToClient...)
	}
	if err != nil {
		c.add(c.at, err.Error(), "correct the module")
		return
	}
	c.compare(from+".gets", direction, gets, client.Gets)
}

func (c *checker) compare(where, direction string, got []byte, want string) {
	if string(got) != want {
		c.add(c.at+"."+where, fmt.Sprintf("a wrong transcript: on the way %s it is %q, expected %q", direction, got, want), "correct the module or the transcript")
	}
}

func (c *checker) refusedTranscript(ctx context.Context, e Transcript) {
	client, direction, side := e.Old, "up", "old"
	if client == nil {
		client, direction, side = e.New, "down", "new"
	}
	if client == nil || e.Old != nil && e.New != nil {
		c.add(c.at, "a refused call has one side only", "write old: or new:")
		return
	}
	outcome, known := map[string]chain.Outcome{string(message.Disallowed): chain.Disallowed, string(message.Untranslatable): chain.Untranslatable}[e.Refused]
	if !known {
		c.add(c.at+".refused", fmt.Sprintf("%q is not known", e.Refused), "write disallowed or untranslatable")
		return
	}
	p := c.pipe(ctx, direction)
	if p == nil {
		return
	}
	defer p.Close()
	out, err := p.Data(ctx, module.ClientSide, []byte(client.Sends))
	if err != nil {
		c.add(c.at, err.Error(), "correct the module")
		return
	}
	c.compare(side+".gets", direction, out.ToClient, client.Gets)
	if !slices.ContainsFunc(out.Calls, func(call module.Called) bool { return call.Outcome == outcome }) {
		c.add(c.at+".refused", "a wrong transcript: the call is taken", "correct the module or the transcript")
	}
}

package owner

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// controller serves the agents, and leads while it holds the lease. One that was paused may believe in its lease too long.
type controller struct {
	*proc
	beats map[string]string // the boot in the last heartbeat that arrived from each host
}

const lease = 400

func newController(w *world, i int) *controller {
	c := &controller{beats: map[string]string{}}
	c.proc = &proc{w: w, name: fmt.Sprintf("controller %d", i), cut: map[*proc]int64{}}
	c.main = func(t *thread) {
		for {
			if revision, ok := c.campaign(t); ok {
				c.manage(t, Registry{Store: client{t}, Leader: revision})
			}
			t.sleep(w.between(20, 120))
		}
	}
	return c
}

// campaign renews the lease, or takes it when nobody has it.
func (c *controller) campaign(t *thread) (int64, bool) {
	l := &c.w.store.leader
	a := client{t}.ask(func() answer {
		if l.name != c.name && l.expires > c.w.now {
			return answer{err: ErrDeposed}
		}
		if l.name != c.name || l.expires <= c.w.now {
			l.name = c.name
			l.revision++
		}
		l.expires = c.w.now + lease
		return answer{rev: l.revision}
	})
	return a.rev, a.err == nil
}

func (c *controller) manage(t *thread, g Registry) {
	bg, w := context.Background(), c.w
	r, err := g.Get(bg, pod)
	if errors.Is(err, ErrNotFound) {
		g.Create(bg, pod)
		return
	}
	if err != nil {
		return
	}
	step, proof := Supervise(r, func(host string) HostView { return c.view(t, w.host(host)) })
	w.actions[step.Action]++
	switch {
	case step.Action == AskAbort:
		w.rules.registry(g).Decide(bg, pod, r.Migration, Abort)
	case step.Action == TakeOver:
		w.rules.registry(g).Takeover(bg, pod, r.Epoch, proof)
	case step.Action == Restart, r.State == Created, r.State == Stopped:
		c.place(t, g, r)
	case r.State == Running && r.Settled && w.moves > 0:
		if w.chance(0.1) {
			w.moves--
			g.Stop(bg, pod, r.Epoch)
			return
		}
		c.migrate(t, g, r)
	}
}

// view asks a host which boot it is in, after the record was read. A host that does not answer may be fenced.
func (c *controller) view(t *thread, h *host) HostView {
	w := c.w
	v := HostView{}
	if h.claimed {
		v.Dead = ConfirmedDead
	}
	boot, ok := call(t, h.agent.proc, callPatience, func(*thread) string { return h.bootID() })
	if ok {
		v.BootID = boot
	} else if v.Dead == "" && w.chance(0.02) {
		v.Dead = Fenced
		h.powerOff("fenced by " + c.name)
		w.after(w.between(100, 3000), h.powerOn)
	}
	return w.rules.gone(w, h, v)
}

// place starts the pod on some host that answers.
func (c *controller) place(t *thread, g Registry, r Record) {
	h := c.w.hosts[c.w.rng.IntN(len(c.w.hosts))]
	if boot, ok := call(t, h.agent.proc, callPatience, func(*thread) string { return h.bootID() }); ok {
		g.Start(context.Background(), pod, r.Epoch, Place{h.name, boot})
	}
}

// migrate prepares both hosts and begins. From then on the agents drive it between themselves.
func (c *controller) migrate(t *thread, g Registry, r Record) {
	w := c.w
	src := w.host(r.Owner.Host)
	dst := w.hosts[(slices.Index(w.hosts, src)+1+w.rng.IntN(len(w.hosts)-1))%len(w.hosts)]
	boot, ok := call(t, dst.agent.proc, callPatience, func(*thread) string { return dst.bootID() })
	if !ok {
		return
	}
	w.named++
	m := Move{Pod: pod, Migration: fmt.Sprintf("m%d", w.named), Epoch: r.Epoch, Destination: Place{dst.name, boot}, PostCopy: w.chance(0.3)}
	to := Journal{Side: Destination, Migration: m.Migration, Epoch: r.Epoch, Incarnation: r.Incarnation, Peer: r.Owner, PostCopy: m.PostCopy}
	from := Journal{Side: Source, Migration: m.Migration, Epoch: r.Epoch, Incarnation: r.Incarnation, Peer: m.Destination, PostCopy: m.PostCopy}
	if ok, _ := call(t, dst.agent.proc, callPatience, func(h *thread) bool { return dst.agent.prepare(h, g.Leader, to) }); !ok {
		return
	}
	if ok, _ := call(t, src.agent.proc, callPatience, func(h *thread) bool { return src.agent.prepare(h, g.Leader, from) }); !ok {
		return
	}
	w.moves--
	g.Begin(context.Background(), m)
}

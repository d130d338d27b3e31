package plan

import "slices"

// maxStates is how many states of a pool may exist for all of them to be looked at.
const maxStates = 400_000

// exhaust looks for an order among all that there are, one move at a time: a shortest one, or the proof that there is none. It
// does so only for small pools; decided is false for others.
type exhaust struct {
	*planner
	movable []int32 // pods that move
	hosts   []int32 // hosts that take part
}

// state is which hosts are patched and where each movable pod is, as a number.
type state uint64

type arrival struct {
	from state
	// pod is the one that moved, or -1 where a host was patched; at is the host.
	pod, at int32
}

func (pl *planner) exhaust() (found, decided bool) {
	e := &exhaust{planner: pl}
	for h := range pl.model.hosts {
		if !pl.model.hosts[h].away {
			e.hosts = append(e.hosts, int32(h))
		}
	}
	for p := range pl.pods {
		if q := &pl.pods[p]; q.moves() && !pl.model.hosts[q.host].away {
			e.movable = append(e.movable, int32(p))
		}
	}
	states := 1
	for range e.movable {
		if states *= len(e.hosts); states > maxStates {
			return false, false
		}
	}
	for range pl.left {
		if states *= 2; states > maxStates {
			return false, false
		}
	}
	return e.search(), true
}

// search goes breadth first by moves; patching a host costs none.
func (e *exhaust) search() bool {
	start := e.encode()
	came := map[state]arrival{start: {from: start, pod: -2}}
	now := []state{start}
	for len(now) > 0 {
		var next []state
		for i := 0; i < len(now); i++ {
			s := now[i]
			e.decode(s)
			if e.done() {
				e.decode(start)
				e.write(path(came, start, s))
				return true
			}
			for _, h := range e.left {
				if t := e.patch(s, h); t != s {
					if _, seen := came[t]; !seen {
						came[t] = arrival{s, -1, h}
						now = append(now, t)
					}
				}
			}
			e.moves(func(p, to int32) {
				e.shift(shift{p, e.pods[p].host, to})
				t := e.encode()
				e.decode(s)
				if _, seen := came[t]; !seen {
					came[t] = arrival{s, p, to}
					next = append(next, t)
				}
			})
		}
		now = next
	}
	e.decode(start)
	return false
}

func path(came map[state]arrival, start, end state) []arrival {
	var steps []arrival
	for s := end; s != start; s = came[s].from {
		steps = append(steps, came[s])
	}
	slices.Reverse(steps)
	return steps
}

func (e *exhaust) encode() state {
	var s state
	for _, p := range e.movable {
		s = s*state(len(e.hosts)) + state(slices.Index(e.hosts, e.pods[p].host))
	}
	for _, h := range e.left {
		s *= 2
		if e.model.hosts[h].patched {
			s++
		}
	}
	return s
}

// decode brings the model to a state.
func (e *exhaust) decode(s state) {
	for _, h := range slices.Backward(e.left) {
		if patched := s%2 == 1; patched != e.model.hosts[h].patched {
			e.exclude(h)
			e.model.hosts[h].patched = patched
			e.enter(h)
		}
		s /= 2
	}
	for _, p := range slices.Backward(e.movable) {
		to := e.hosts[s%state(len(e.hosts))]
		s /= state(len(e.hosts))
		if from := e.pods[p].host; from != to {
			e.shift(shift{p, from, to})
		}
	}
}

// patch is the state after a host is patched, or the same one where that cannot be now.
func (e *exhaust) patch(s state, h int32) state {
	if e.model.hosts[h].patched {
		return s
	}
	if e.model.hosts[h].drains {
		for p := range e.model.hosts[h].pods {
			if !e.pods[p].restart {
				return s
			}
		}
	}
	bit := state(1) << (len(e.left) - 1 - slices.Index(e.left, h))
	return s | bit
}

func (e *exhaust) moves(each func(p, to int32)) {
	for _, p := range e.movable {
		from := e.pods[p].host
		for _, to := range e.hosts {
			if to != from && e.can(e.stack(from), e.stack(to)) && e.fits(p, to) {
				each(p, to)
			}
		}
	}
}

func (e *exhaust) done() bool {
	for _, h := range e.left {
		if !e.model.hosts[h].patched {
			return false
		}
	}
	if e.in.Policy.Return == ReturnAlways {
		for _, p := range e.movable {
			if e.pods[p].host != e.pods[p].start {
				return false
			}
		}
	}
	return true
}

// write makes rounds of the steps, one host in each.
func (e *exhaust) write(steps []arrival) {
	var stages [][]Move
	for _, s := range steps {
		if s.pod >= 0 {
			from := e.pods[s.pod].host
			stages = append(stages, []Move{e.move(s.pod, from, s.at, "the only order that was found needs it there")})
			e.shift(shift{s.pod, from, s.at})
			e.moved[s.pod] = true
			continue
		}
		e.exclude(s.at)
		if e.model.hosts[s.at].drains {
			e.inPlace = append(e.inPlace, e.podsOf(s.at)...)
		}
		round := Round{Drain: stages, Hosts: []HostStep{e.step(s.at, "the only order that was found has it here")}}
		stages = nil
		e.model.hosts[s.at].patched = true
		var back []Move
		for _, p := range e.inPlace {
			back = append(back, Move{Pod: e.in.Pods[p].Name, From: e.hostName(s.at), To: e.hostName(s.at), Why: whyReturn, Restart: true})
		}
		if e.inPlace = e.inPlace[:0]; len(back) > 0 {
			round.Return = append(round.Return, back)
		}
		e.enter(s.at)
		e.rounds = append(e.rounds, round)
	}
	if last := len(e.rounds) - 1; last >= 0 {
		e.rounds[last].Return = append(e.rounds[last].Return, stages...)
	}
	e.left = nil
}

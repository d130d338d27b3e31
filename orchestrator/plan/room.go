package plan

import (
	"cmp"
	"slices"
)

// Where room is made by moving pods between hosts that stay, this many of the hosts are looked at.
const (
	roomHosts   = 64
	roomTargets = 256
	roomVictims = 4
)

// shift is a move that has been made already, in a stage of its own.
type shift struct{ pod, from, to int32 }

// makingRoom makes a round of one host whose pods do not find room as things stand, by moving other pods out of the way first.
func (pl *planner) makingRoom() bool {
	hosts := slices.Clone(pl.left)
	slices.SortFunc(hosts, func(a, b int32) int {
		return cmp.Or(cmp.Compare(len(pl.hosts[a].pods), len(pl.hosts[b].pods)), cmp.Compare(a, b))
	})
	for _, h := range hosts[:min(roomHosts, len(hosts))] {
		pl.exclude(h)
		shifts, ok := pl.drainWithRoom(h)
		if !ok {
			pl.enter(h)
			continue
		}
		var before [][]Move
		for _, s := range shifts {
			pl.moved[s.pod] = true
			before = append(before, []Move{pl.move(s.pod, s.from, s.to, whyMade)})
		}
		pl.finish([]int32{h}, before, "room was made for its pods")
		if pl.in.Policy.Return == ReturnAlways {
			pl.shiftBack(shifts)
		}
		return true
	}
	return false
}

// shiftBack ends the round with the moves back of the pods that made room, the last first.
func (pl *planner) shiftBack(shifts []shift) {
	round := &pl.rounds[len(pl.rounds)-1]
	for _, s := range slices.Backward(shifts) {
		pl.shift(shift{s.pod, s.to, s.from})
		round.Return = append(round.Return, []Move{pl.move(s.pod, s.to, s.from, "room is no longer needed")})
	}
}

// drainWithRoom is drain, but moves other pods where one finds no room. The moves that make room come first when the plan is
// carried out, when less has been placed than here: so they fit there too.
func (pl *planner) drainWithRoom(h int32) ([]shift, bool) {
	var shifts []shift
	for _, p := range pl.podsOf(h) {
		to, why := pl.to(p, h)
		if to < 0 {
			var made []shift
			if made, to = pl.makeRoom(p, h); to >= 0 {
				shifts = append(shifts, made...)
				why = whyRoom
			}
		}
		switch {
		case to == h:
			pl.inPlace = append(pl.inPlace, p)
		case to >= 0:
			pl.assign(p, to)
			pl.whys = append(pl.whys, why)
		default:
			pl.undo(0)
			pl.whys, pl.inPlace = pl.whys[:0], pl.inPlace[:0]
			pl.unshift(shifts)
			return nil, false
		}
	}
	return shifts, true
}

// makeRoom frees a host for a pod, by as few moves as it can.
func (pl *planner) makeRoom(p, from int32) ([]shift, int32) {
	var targets []int32
	for _, c := range pl.classesFor(from) {
		if pl.mayGo(p, from, c.stack) && (pl.in.Policy.Return != ReturnAlways || pl.can(c.stack, pl.hosts[from].after)) {
			targets = append(targets, pl.classes[c].hosts...)
		}
	}
	targets = targets[:min(roomTargets, len(targets))]
	for count := 1; count <= roomVictims; count++ {
		for _, t := range slices.Clone(targets) {
			if pl.hosts[t].maxMemory < pl.pods[p].memory || pl.hosts[t].maxCPU < pl.pods[p].cpu {
				continue
			}
			if shifts, ok := pl.clear(p, t, count); ok {
				return shifts, t
			}
		}
	}
	return nil, -1
}

// clear moves at most count pods off a host, until another fits there.
func (pl *planner) clear(p, t int32, count int) ([]shift, bool) {
	pl.exclude(t)
	defer pl.enter(t)
	victims := pl.podsOf(t)
	slices.Reverse(victims)
	for first := range victims {
		var shifts []shift
		for _, v := range victims[first:] {
			if len(shifts) == count || !pl.pods[v].moves() || pl.arrives(v) {
				break
			}
			to, _ := pl.destination(v, t, pl.stack(t))
			if to < 0 {
				continue
			}
			pl.shift(shift{v, t, to})
			shifts = append(shifts, shift{v, t, to})
			if pl.fits(p, t) {
				return shifts, true
			}
		}
		pl.unshift(shifts)
	}
	return nil, false
}

// arrives says whether a pod is at its host only since this stage began.
func (pl *planner) arrives(p int32) bool {
	return slices.ContainsFunc(pl.leaving, func(l leave) bool { return l.pod == p })
}

func (m *model) shift(s shift) {
	m.occupy(s.pod, s.to)
	m.vacate(s.pod, s.from)
	delete(m.hosts[s.from].pods, s.pod)
	m.hosts[s.to].pods[s.pod] = struct{}{}
	m.pods[s.pod].host = s.to
}

// unshift takes shifts back, the last first.
func (m *model) unshift(shifts []shift) {
	for _, s := range slices.Backward(shifts) {
		m.shift(shift{s.pod, s.to, s.from})
	}
}

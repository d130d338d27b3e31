package owner

import (
	"strings"
	"testing"
)

// bentNext changes what Next says.
func bentNext(bend func(j Journal, f Facts, v View, right Step) Action) func(*world) {
	return func(w *world) {
		w.rules.next = func(j Journal, f Facts, v View) Step {
			right := Next(j, f, v)
			if a := bend(j, f, v, right); a != "" {
				return Step{a, "broken rule"}
			}
			return right
		}
	}
}

// careless takes over without any proof.
type careless struct {
	Registry
}

func (c careless) Takeover(ctx ctx, pod string, epoch uint64, p Proof) (Record, error) {
	return c.update(ctx, "take over", pod, func(r *Record) error { return lose(r, "take over", epoch, r.Owner.Host, "carelessly") })
}

func TestSimulationCatchesABrokenRule(t *testing.T) {
	for name, tt := range map[string]struct {
		bend   func(*world)
		caught string // one of these
	}{
		"a source thaws when it cannot read": {
			bentNext(func(j Journal, f Facts, v View, right Step) Action {
				if j.Side == Source && f.Tasks == TasksFrozen && !v.Known {
					return Thaw
				}
				return ""
			}), "two copies run|knows|forgotten"},
		"a source thaws when its peer is silent": {
			bentNext(func(j Journal, f Facts, v View, right Step) Action {
				if j.Side == Source && f.Tasks == TasksFrozen && f.Peer == PeerSilent {
					return Thaw
				}
				return ""
			}), "two copies run|knows|forgotten"},
		"a source thaws when its agent restarts": {
			bentNext(func(j Journal, f Facts, v View, right Step) Action {
				if j.Side == Source && f.Tasks == TasksFrozen && f.Interrupted {
					return Thaw
				}
				return ""
			}), "two copies run|knows|forgotten"},
		"a source kills as soon as it is committed": {
			bentNext(func(j Journal, f Facts, v View, right Step) Action {
				if j.Side == Source && right.Action == StayFrozen && v.Record.Outcome == Commit {
					return KillAndClean
				}
				return ""
			}), "kills the only whole copy"},
		"a destination runs before it is committed": {
			bentNext(func(j Journal, f Facts, v View, right Step) Action {
				if right.Action == AskCommit {
					return Run
				}
				return ""
			}), "two copies run|knows|forgotten"},
		"a destination runs when it cannot read": {
			bentNext(func(j Journal, f Facts, v View, right Step) Action {
				if j.Side == Destination && f.Tasks == TasksHeld && !v.Known {
					return Run
				}
				return ""
			}), "two copies run|knows|forgotten"},
		"a destination restores again what has run": {
			bentNext(func(j Journal, f Facts, v View, right Step) Action {
				if j.Side == Destination && right.Action == ReportLost && f.Complete {
					return Restore
				}
				return ""
			}), "knows|forgotten"},
		"a destination restores again what ran unseen": {
			bentNext(func(j Journal, f Facts, v View, right Step) Action {
				if j.Side == Destination && right.Action == HandBack && j.Ran && f.Complete && j.Attempts < 3 {
					return Restore
				}
				return ""
			}), "knows|forgotten"},
		"a destination hands back what was seen running": {
			func(w *world) {
				w.rules.seen = func(Journal) bool { return false }
				bentNext(func(j Journal, f Facts, v View, right Step) Action {
					if j.Side == Destination && right.Action == ReportLost {
						return HandBack
					}
					return ""
				})(w)
			}, "knows|forgotten"},
		"a destination forgets that the pod ran": {
			func(w *world) {
				w.rules.next = func(j Journal, f Facts, v View) Step {
					if f.Tasks == NoTasks {
						j.Ran = false
						if j.Stage == PluggedIn {
							j.Stage = Committed
						}
					}
					return Next(j, f, v)
				}
			}, "knows|forgotten"},
		"an agent that boots starts what it ran": {
			bentNext(func(j Journal, f Facts, v View, right Step) Action {
				if j.Side == Resident && f.Tasks == NoTasks && j.BootID != f.Here.BootID {
					return StartFresh
				}
				return ""
			}), "two copies run|starts incarnation|knows|runs a copy"},
		"a leader takes over from a host that does not answer": {
			func(w *world) {
				w.rules.registry = func(g Registry) operations { return careless{g} }
				w.rules.gone = func(_ *world, _ *host, v HostView) HostView {
					if v.BootID == "" {
						v.BootID = "silent"
					}
					return v
				}
			}, "two copies run|called lost while it runs"},
		"a leader trusts an old heartbeat": {
			func(w *world) {
				w.rules.gone = func(w *world, h *host, v HostView) HostView {
					if boot := w.controllers[0].beats[h.name]; boot != "" {
						v.BootID = boot
					}
					return v
				}
			}, "two copies run|called lost while it runs"},
		"a decision that was not answered is guessed": {
			func(w *world) {
				w.rules.next = func(j Journal, f Facts, v View) Step {
					if want, ok := w.unanswered[f.Here.Host+j.Migration]; ok && v.Record.State == Moving {
						v.Record.State, v.Record.Outcome = Running, want
						if want == Commit {
							v.Record.Owner = v.Record.Destination
						}
					}
					return Next(j, f, v)
				}
			}, "two copies run|knows|forgotten|runs a copy"},
	} {
		t.Run(name, func(t *testing.T) {
			seed, failure, _ := sweep(2000, tt.bend, strings.Split(tt.caught, "|")...)
			if seed == 0 {
				t.Fatal("not caught")
			}
			t.Logf("seed %d: %s", seed, failure)
		})
	}
}

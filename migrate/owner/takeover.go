package owner

import (
	"context"
	"fmt"
)

// ProofKind says how it is known that what ran on a host is gone.
type ProofKind string

const (
	// NewBoot: the host's agent answered from another boot, to a question that was asked after the record at Epoch had
	// been read. (An answer or heartbeat from before may come from an earlier boot than the one on record, and proves nothing.)
	NewBoot ProofKind = "new-boot"
	// Fenced: a fence command that was started while the host was in that boot, or later, has succeeded.
	Fenced ProofKind = "fenced"
	// ConfirmedDead: the operator said that this boot of the host is over.
	ConfirmedDead ProofKind = "confirmed-dead"
)

// Proof that what ran on a host in the boot that is on record is gone.
type Proof struct {
	Kind  ProofKind
	Place Place  // the host, in the boot that is gone
	Now   string // for NewBoot: the boot id that its agent answered with
	Epoch uint64 // for NewBoot: of the record that was read before the question was asked
}

// check says why p does not prove that dead is gone, or "".
func (p Proof) check(dead Place, epoch uint64) string {
	switch {
	case p.Kind == NewBoot && p.Epoch != epoch:
		return fmt.Sprintf("the answer was asked for at epoch %d, the record is at %d", p.Epoch, epoch)
	case p.Place != dead:
		return fmt.Sprintf("the proof is about boot %s of %s, the record about boot %s of %s", p.Place.BootID, p.Place.Host, dead.BootID, dead.Host)
	case p.Kind == NewBoot && (p.Now == "" || p.Now == dead.BootID):
		return "no other boot of " + dead.Host + " was seen"
	case p.Kind != NewBoot && p.Kind != Fenced && p.Kind != ConfirmedDead:
		return fmt.Sprintf("%q is no proof", p.Kind)
	}
	return ""
}

// Takeover makes a pod lost whose owner is proven to be gone, so that the restart policy may start it elsewhere.
// A migration that is under way has to be decided first. A pod that was being stopped becomes stopped.
func (g Registry) Takeover(ctx context.Context, pod string, epoch uint64, p Proof) (Record, error) {
	const op = "take over"
	return g.lead(ctx, op, pod, func(r *Record) error {
		if r.Epoch == epoch && r.Owned() {
			if why := p.check(r.Owner, epoch); why != "" {
				return refuse(op, *r, why, "wait for a new boot, fence "+r.Owner.Host+", or confirm that it is dead")
			}
			// A destination that booted has its journal, and may prove that the pod never ran there and hand it back.
			if p.Kind == NewBoot && r.State == Running && r.Outcome == Commit && !r.Settled {
				return refuse(op, *r, r.Owner.Host+" may still hand it back", "let its agent read its journal, or confirm that it is dead")
			}
		}
		return lose(r, op, epoch, p.Place.Host, fmt.Sprintf("%s is gone: %s", p.Place.Host, p.Kind))
	})
}

// HostView is what a controller knows of a host, asked for after the record was read.
type HostView struct {
	// BootID with which its agent answered; empty when it did not.
	BootID string
	// Dead is Fenced or ConfirmedDead when there is such proof for its boot DeadBoot, else empty.
	Dead     ProofKind
	DeadBoot string
}

// gone gives proof that what ran at p is gone, if there is any.
func (h HostView) gone(p Place, epoch uint64) (Proof, bool) {
	switch {
	case h.Dead != "" && h.DeadBoot == p.BootID:
		return Proof{Kind: h.Dead, Place: p, Epoch: epoch}, true
	case h.BootID != "" && h.BootID != p.BootID:
		return Proof{Kind: NewBoot, Place: p, Now: h.BootID, Epoch: epoch}, true
	}
	return Proof{}, false
}

// Supervise says what a leader should do about a pod whose hosts may be gone: AskAbort, TakeOver (with the proof for
// Takeover), Restart (the restart policy applies), or Nothing. look answers for a host and must ask after r was read.
// What living agents can settle between themselves is left to them.
func Supervise(r Record, look func(host string) HostView) (Step, Proof) {
	switch r.State {
	case Lost:
		return Step{Restart, r.Reason}, Proof{}
	case Moving:
		if p, gone := look(r.Destination.Host).gone(r.Destination, r.Epoch); gone {
			return Step{AskAbort, fmt.Sprintf("destination %s is gone: %s", r.Destination, p.Kind)}, Proof{}
		}
		return Step{Nothing, underWay(r)}, Proof{}
	case Running, Stopping:
		h := look(r.Owner.Host)
		p, gone := h.gone(r.Owner, r.Epoch)
		if !gone {
			return Step{Nothing, r.Reason}, Proof{}
		}
		if p.Kind == NewBoot && r.Outcome == Commit && !r.Settled {
			return Step{Nothing, r.Owner.Host + " booted, and its journal tells whether it can hand the pod back"}, Proof{}
		}
		return Step{TakeOver, fmt.Sprintf("%s is gone: %s", r.Owner, p.Kind)}, p
	}
	return Step{Nothing, r.Reason}, Proof{}
}

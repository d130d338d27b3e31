package owner

import (
	"context"
	"fmt"
)

// ProofKind says how it is known that what ran on a host is gone.
type ProofKind string

const (
	// NewBoot: the host's agent answered from another boot than the one on record. (A heartbeat, or an answer to an older
	// question, may come from an earlier boot, and proves nothing.)
	NewBoot ProofKind = "new-boot"
	// Fenced: a fence command succeeded.
	Fenced ProofKind = "fenced"
	// ConfirmedDead: the operator's word stands that the host is dead. It must stand until the host joins again, and be
	// withdrawn before the host is then given any pod.
	ConfirmedDead ProofKind = "confirmed-dead"
)

// Proof that the boot of a host that is on record is over. It must have been obtained - the question asked, the fence
// begun, the operator's word read - after the record at Epoch was: only then is it about that boot or a later one.
type Proof struct {
	Kind  ProofKind
	Host  string
	Now   string // for NewBoot: the boot id that its agent answered with
	Epoch uint64
}

// check says why p does not prove that dead is gone, or "".
func (p Proof) check(dead Place, epoch uint64) string {
	switch {
	case p.Epoch != epoch:
		return fmt.Sprintf("the proof was obtained at epoch %d, the record is at %d", p.Epoch, epoch)
	case p.Host != dead.Host:
		return fmt.Sprintf("the proof is about %s, the owner is %s", p.Host, dead.Host)
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
		return lose(r, op, epoch, p.Host, fmt.Sprintf("%s is gone: %s", p.Host, p.Kind))
	})
}

// HostView is what a controller knows of a host, all of it asked for after the record was read.
type HostView struct {
	// BootID with which its agent answered; empty when it did not.
	BootID string
	// Dead is Fenced or ConfirmedDead when there is such proof, else empty.
	Dead ProofKind
}

// gone gives proof that the boot of p is over, if there is any.
func (h HostView) gone(p Place, epoch uint64) (Proof, bool) {
	switch {
	case h.BootID != "" && h.BootID != p.BootID:
		return Proof{Kind: NewBoot, Host: p.Host, Now: h.BootID, Epoch: epoch}, true
	case h.Dead != "":
		return Proof{Kind: h.Dead, Host: p.Host, Epoch: epoch}, true
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

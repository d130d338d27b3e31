package owner

import (
	"slices"
	"strings"
)

// truth is what really happened, as only the checker can know.
type truth struct {
	incarnation uint64          // the last that was started
	acked       int             // writes that clients have an answer for, in this incarnation
	wrote       int             // writes to the shared volume
	marked      map[string]bool // migrations whose tasks somebody may have seen running at the destination
}

// check looks at the whole world after every event.
func (w *world) check() {
	running := 0
	for _, h := range w.hosts {
		if h.kernel.tasks != TasksRunning {
			continue
		}
		if running++; running > 1 {
			w.fail("two copies run")
		}
		if h.kernel.memory.incarnation != w.truth.incarnation {
			w.fail("%s runs a copy of incarnation %d, %d has been started", h.name, h.kernel.memory.incarnation, w.truth.incarnation)
		}
		if h.kernel.memory.acked != w.truth.acked {
			w.fail("%s runs a copy that knows %d of %d acknowledged writes", h.name, h.kernel.memory.acked, w.truth.acked)
		}
		if wrote := w.wrote(h); h.kernel.memory.wrote != wrote {
			w.fail("%s runs a copy that has forgotten that it ran: it knows %d of %d writes to the volume", h.name, h.kernel.memory.wrote, wrote)
		}
	}
}

// wrote is how many writes are on the volume that the pod sees on a host.
func (w *world) wrote(h *host) int {
	if w.unshared {
		return h.onDisk.files
	}
	return w.truth.wrote
}

// upToDate tells whether a host has a frozen copy that knows all that was seen of the pod.
func (w *world) upToDate(h *host) bool {
	k := h.kernel
	return k.tasks == TasksFrozen && k.memory.incarnation == w.truth.incarnation && k.memory.acked == w.truth.acked && k.memory.wrote == w.wrote(h)
}

// work lets whatever runs write to the volume, and answer a client where it is plugged in.
func (w *world) work() {
	for _, h := range w.hosts {
		if k := &h.kernel; k.tasks == TasksRunning && !k.lost && !(k.lazy && w.chance(0.5)) {
			w.write(h)
			if k.plugged {
				k.memory.acked++
				w.truth.acked++
			}
		}
	}
	w.after(7, w.work)
}

// write lets the copy on a host write to the pod's volume.
func (w *world) write(h *host) {
	h.kernel.memory.wrote++
	if w.unshared {
		h.onDisk.files++
	} else {
		w.truth.wrote++
	}
}

// started: a copy is made from nothing. The record must say so, for this host, now.
func (w *world) started(h *host, incarnation uint64) {
	if incarnation < w.truth.incarnation {
		w.fail("%s starts incarnation %d, %d has been started", h.name, incarnation, w.truth.incarnation)
	}
	if incarnation > w.truth.incarnation {
		w.truth.incarnation, w.truth.acked = incarnation, 0
	}
	h.kernel.memory = memory{incarnation: incarnation, acked: w.truth.acked, wrote: w.wrote(h)}
}

// written checks that a pod is called lost only for a reason that is true.
func (w *world) written(before, r Record) {
	if r.State != Lost && (r.State != Stopped || before.State != Stopping) {
		return
	}
	o := w.host(before.Owner.Host)
	if o.up && o.bootID() == before.Owner.BootID && o.kernel.tasks == TasksRunning && !o.kernel.lost {
		w.fail("called %s while it runs on %s", r.State, o.name)
	}
	if r.State == Stopped {
		return
	}
	frozen := func(h *host) bool { return h.up && h.kernel.memory.incarnation == r.Incarnation && w.upToDate(h) }
	// An owner that was declared dead can prove nothing; one that lives, or will, can hand back what nobody saw running.
	declared := strings.HasSuffix(r.Reason, string(Fenced)) || strings.HasSuffix(r.Reason, string(ConfirmedDead))
	if before.Outcome == Commit && !before.Settled && !w.truth.marked[before.Migration] && !declared && slices.ContainsFunc(w.hosts, frozen) {
		w.fail("called lost (%s) while the source is whole and nobody saw anything run at the destination", r.Reason)
	}
	if o.up && o.bootID() == before.Owner.BootID && frozen(o) {
		w.fail("called lost (%s) while its owner %s has it frozen and whole", r.Reason, o.name)
	}
}

// killing checks that a frozen copy is not killed while it may be the one that has to run again.
func (w *world) killing(h *host) {
	r, whole := w.owner(), w.upToDate(h)
	open := r.Incarnation == w.truth.incarnation && (r.State == Running && !r.Settled || r.State == Moving)
	if whole && open && !w.truth.marked[r.Migration] {
		w.fail("%s kills the only whole copy: %s", h.name, r.Reason)
	}
}

// quiet says that the pod runs again where the record says, and that nothing else is left anywhere.
func (w *world) quiet() bool {
	r := w.owner()
	if r.State != Running || !r.Settled {
		return false
	}
	for _, h := range w.hosts {
		k, j := h.kernel, h.onDisk.journal
		switch {
		case h.dead:
		case h.place() == r.Owner:
			if k.tasks != TasksRunning || !k.plugged || k.busy || j.Side != Resident || j.Stage != Up {
				return false
			}
		case k.tasks != NoTasks || k.busy || k.image != nil || j.Side != "":
			return false
		}
	}
	return !w.host(r.Owner.Host).dead
}

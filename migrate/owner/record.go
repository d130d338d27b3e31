package owner

import (
	"encoding/json"
	"fmt"
)

// recordVersion is the layout of Record as it is stored. A reader refuses a higher one.
const recordVersion = 1

// State says what may be done with a pod.
type State string

const (
	// Created: known, and never started. Nobody may run it.
	Created State = "created"
	// Running: Host, in the boot BootID, may run it; nobody else may.
	Running State = "running"
	// Moving: a migration has begun and is not decided. Host keeps the only copy that may ever run again if it is
	// aborted; from its freeze on, nobody runs it.
	Moving State = "moving"
	// Stopping: Host has to kill it. Nobody may start it until Host has said that no task is left.
	Stopping State = "stopping"
	// Stopped: stopped on purpose, no task is left anywhere. Nobody may run it.
	Stopped State = "stopped"
	// Lost: no copy is left, or none that may be trusted. Nobody may run it until the restart policy starts it anew.
	Lost State = "lost"
	// Removed: the pod is gone; the record stays so that epochs never start again at a lower number.
	Removed State = "removed"
)

// Outcome is what became of a migration.
type Outcome string

const (
	// Undecided: the migration is under way.
	Undecided Outcome = ""
	// Commit: the destination owns the pod.
	Commit Outcome = "commit"
	// Abort: the source keeps it.
	Abort Outcome = "abort"
	// HandedBack: committed, and given back by a destination that proved that no task ever ran there, or that nobody saw it.
	HandedBack Outcome = "handed-back"
)

// Place is a host in one of its boots: what ran there is gone when the boot id changes.
type Place struct {
	Host   string `json:"host"`
	BootID string `json:"boot_id"`
}

func (p Place) String() string { return p.Host }

// Record is a pod's entry in the store: who may run it.
type Record struct {
	Version int    `json:"version"`
	Pod     string `json:"pod"`
	// Epoch goes up by one with each change of who may run, and with each decision.
	Epoch uint64 `json:"epoch"`
	// Born is the epoch in which the pod was created. A pod that was removed and made again under its name has a higher one,
	// so that what a host keeps of the first is never taken for the second's. Zero: written before there was this field.
	Born uint64 `json:"born,omitempty"`
	// Incarnation is the epoch in which the pod was last started from nothing. It stays the same while it moves.
	Incarnation uint64 `json:"incarnation"`
	State       State  `json:"state"`
	// Owner may run the pod in the states running and moving. In stopped and lost it is where the pod was last.
	Owner Place `json:"owner"`
	// Settled: Owner has said that it runs the pod, plugged in and with all of its memory. Until then the other side of
	// Migration keeps what it holds, and no other migration begins.
	Settled bool `json:"settled"`

	// Migration is the one under way, or the last one of this incarnation.
	Migration   string  `json:"migration,omitempty"`
	Outcome     Outcome `json:"outcome,omitempty"`
	Source      Place   `json:"source,omitzero"`
	Destination Place   `json:"destination,omitzero"`
	// PostCopy: the commit comes before the pages, so that losing the source before Settled loses the pod.
	PostCopy bool `json:"post_copy,omitempty"`

	// Leader is the highest leadership revision that has written here.
	Leader int64 `json:"leader,omitempty"`
	// Reason says why the pod is in this state, for the operator.
	Reason string `json:"reason,omitempty"`

	// Revision is the store's, and not part of what is stored: zero means that there is no record.
	Revision int64 `json:"-"`
}

// MayRun says whether p may run the pod as far as this record is concerned.
func (r Record) MayRun(p Place) bool {
	return (r.State == Running || r.State == Moving) && r.Owner == p
}

// Owned says whether a host is answerable for the pod: it runs it, may run it, or has to kill it.
func (r Record) Owned() bool { return r.State == Running || r.State == Moving || r.State == Stopping }

// Encode gives the stored form.
func (r Record) Encode() ([]byte, error) {
	r.Version = recordVersion
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode owner record of pod %s: %w", r.Pod, err)
	}
	return b, nil
}

// Decode reads the stored form and gives it the store's revision. A newer layout is an error: this program must not
// decide over a pod whose record it understands only in part.
func Decode(b []byte, revision int64) (Record, error) {
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return Record{}, fmt.Errorf("decode owner record: %w", err)
	}
	if err := knownLayout(r.Version, recordVersion); err != nil {
		return Record{}, fmt.Errorf("owner record of pod %s: %w", r.Pod, err)
	}
	r.Revision = revision
	return r, nil
}

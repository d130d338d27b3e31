package owner

import (
	"fmt"
	"strings"

	"drydock/internal/durable"
)

// Side is the part that a host plays for a pod.
type Side string

const (
	// Resident: no migration concerns this host; it runs the pod, or is about to.
	Resident Side = "resident"
	// Source of a migration.
	Source Side = "source"
	// Destination of a migration.
	Destination Side = "destination"
)

// Stage is how far a host has gone. It is journalled before the first action that it names.
type Stage string

const (
	// Starting (resident): tasks may be being made from nothing.
	Starting Stage = "starting"
	// Up (resident): the pod was started, or taken over from a migration that is over.
	Up Stage = "up"

	// Prepared (source, destination): asked to take part; nothing has been frozen or received.
	Prepared Stage = "prepared"
	// Frozen (source): tasks may be frozen and unplugged.
	Frozen Stage = "frozen"
	// Dumped (source): CRIU has dumped, and everything was sent.
	Dumped Stage = "dumped"
	// Thawing (source): the decision was abort, or the pod was handed back; tasks may run again.
	Thawing Stage = "thawing"

	// Received (destination): everything that a restore needs is here.
	Received Stage = "received"
	// Restoring (destination): CRIU may be rebuilding tasks, or they wait in the post-restore hook.
	Restoring Stage = "restoring"
	// Committed (destination): commit is known, the hook may be released.
	Committed Stage = "committed"
	// HandingBack (destination): it gives the pod back and never restores or runs it again under this migration.
	HandingBack Stage = "handing-back"
	// PluggedIn (destination): the world may have heard from the pod.
	PluggedIn Stage = "plugged-in"
)

// Journal is what a host remembers about a pod, on its disk. There is one per pod and host; the zero Journal means that
// there is none. A host takes part in a migration only when its journal is empty or Resident.
type Journal struct {
	Version int    `json:"version"`
	Pod     string `json:"pod"`
	Side    Side   `json:"side"`
	Stage   Stage  `json:"stage"`
	// Incarnation of the pod that the tasks here belong to, from the record.
	Incarnation uint64 `json:"incarnation"`
	// BootID of this host when the tasks, or the copy, came to be here. With another boot they are gone.
	BootID string `json:"boot_id"`

	Migration string `json:"migration,omitempty"`
	// Epoch of the record before the migration is decided.
	Epoch uint64 `json:"epoch,omitempty"`
	Peer  Place  `json:"peer,omitzero"`
	// PeerAddress is how to reach Peer: after a restart it has to be asked before a controller has named the other hosts.
	PeerAddress string `json:"peer_address,omitempty"`
	PostCopy    bool   `json:"post_copy,omitempty"`
	// Attempts counts the restores that were begun here.
	Attempts int `json:"attempts,omitempty"`
	// Ran (destination): a task may have run an instruction. It is written before the post-restore hook is released, and so
	// before any can. It is unset only where the hook itself says, after everything of CRIU has been ended, that it was never
	// passed in this boot.
	Ran bool `json:"ran,omitempty"`
	// Unshared (destination): until PluggedIn is journalled, nothing that the pod's tasks do reaches anybody outside this
	// host: no packet leaves, and the pod has no shared volume.
	Unshared bool `json:"unshared,omitempty"`
}

// Seen tells whether somebody outside this host may have seen that the pod's tasks ran here. What was not seen may be given
// back to a source that is whole, once every task here has ended.
func (j Journal) Seen() bool { return j.Stage == PluggedIn || j.Ran && !j.Unshared }

// journalVersion is the layout of Journal. A reader refuses a higher one.
const journalVersion = 1

// Save writes j to path durably: when it returns nil, j survives a power failure.
func (j Journal) Save(path string) error {
	j.Version = journalVersion
	return writeFile(path, j)
}

// LoadJournal reads what Save wrote. Without a file it returns the zero Journal.
func LoadJournal(path string) (Journal, error) {
	var j Journal
	found, err := readFile(path, &j)
	if err != nil {
		return Journal{}, fmt.Errorf("load journal: %w", err)
	}
	if !found {
		return Journal{}, nil
	}
	if err := knownLayout(j.Version, journalVersion); err != nil {
		return Journal{}, fmt.Errorf("load journal %s: %w", path, err)
	}
	return j, nil
}

// RemoveJournal removes the journal at path durably. It comes last, when nothing of the pod is left on the host.
func RemoveJournal(path string) error { return durable.Remove(path) }

func (j Journal) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", j.Side, j.Stage, j.Migration))
}

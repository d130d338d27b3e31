// Package version tells which version of Drydock this program is, and with which others it works.
package version

import (
	"fmt"
	"runtime/debug"
)

// API is counted up with each change of what agents and controllers say to each other that an older peer must know of.
// Peers one apart work together. Zero is a peer that does not say: one from before versions were told.
const API = 1

// String is what the Go tool wrote into the binary: a tag, or a commit with its date.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}

// Mismatch says that a peer is too far from this program for them to work together, and what to do about it.
type Mismatch struct {
	// Peer is what the other side is called: "host h1", "the controller".
	Peer         string
	Ours, Theirs uint32
}

// Reason is what is wrong.
func (m *Mismatch) Reason() string {
	return fmt.Sprintf("%s speaks version %d of the API, this program %d: they may be one apart", m.Peer, m.Theirs, m.Ours)
}

// Remedy is what would mend it.
func (m *Mismatch) Remedy() string {
	if m.Theirs < m.Ours {
		return "upgrade " + m.Peer + ", one version at a time"
	}
	return "upgrade this program, or install an older one on " + m.Peer
}

func (m *Mismatch) Error() string { return m.Reason() + "; " + m.Remedy() }

// Check returns a *Mismatch where a peer that speaks version theirs is more than one apart from ours, else nil.
func Check(peer string, ours, theirs uint32) error {
	if max(ours, theirs)-min(ours, theirs) <= 1 {
		return nil
	}
	return &Mismatch{Peer: peer, Ours: ours, Theirs: theirs}
}

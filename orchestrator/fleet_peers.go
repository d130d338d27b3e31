package orchestrator

import (
	"cmp"
	"slices"

	drydockv1 "drydock/api/drydock/v1"
)

// tellPeers says which hosts there are but one: all of them, or, to who knew them at a revision, what has changed since.
func (f *fleet) tellPeers(but string, since int64, to *drydockv1.ReportResponse) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	to.PeersCount = int32(len(f.hosts))
	if _, ok := f.hosts[but]; ok {
		to.PeersCount--
	}
	to.PeersRevision = f.complete
	if n := len(f.changes); n > 0 {
		to.PeersRevision = max(to.PeersRevision, f.changes[n-1].revision)
	}
	to.PeersChanged = since > 0
	if since < f.complete || since == 0 {
		f.tellAll(but, since, to)
		return
	}
	f.tellChanges(but, since, to)
}

// tellAll tells of the hosts that were written after a revision. Which ones went since then is not known: the count tells who
// knows one too many.
func (f *fleet) tellAll(but string, since int64, to *drydockv1.ReportResponse) {
	for name, item := range f.hosts {
		if name != but && item.Revision > since {
			to.Peers = append(to.Peers, (host{record: item.Value}).peer())
		}
	}
}

// tellChanges tells of the hosts that have come, changed or gone after a revision.
func (f *fleet) tellChanges(but string, since int64, to *drydockv1.ReportResponse) {
	first, _ := slices.BinarySearchFunc(f.changes, since+1, func(c change, revision int64) int { return cmp.Compare(c.revision, revision) })
	told := make(map[string]bool)
	for _, c := range f.changes[first:] {
		item, ok := f.hosts[c.host]
		switch {
		case told[c.host] || c.host == but:
		case ok:
			to.Peers = append(to.Peers, (host{record: item.Value}).peer())
		default:
			to.PeersRemoved = append(to.PeersRemoved, c.host)
		}
		told[c.host] = true
	}
}

package orchestrator

import (
	"cmp"
	"slices"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/store"
)

// peersAtOnce is how many hosts one answer tells of, so that no answer grows with the fleet.
const peersAtOnce = 1000

// tellPeers says which hosts there are but one: all of them, or, to who knew them at a revision, what has changed since; of
// much no more than a part, to who asks for the rest.
func (f *fleet) tellPeers(but string, since int64, parts bool, to *drydockv1.ReportResponse) {
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
	atMost := len(f.hosts) + len(f.changes)
	if parts {
		atMost = peersAtOnce
	}
	if since < f.complete || since == 0 {
		f.tellAll(but, since, atMost, to)
		return
	}
	f.tellChanges(but, since, atMost, to)
}

// tellAll tells of the hosts that were written after a revision. Which ones went since then is not known: the count tells who
// knows one too many.
func (f *fleet) tellAll(but string, since int64, atMost int, to *drydockv1.ReportResponse) {
	var found []store.Item[*drydockv1.HostRecord]
	for name, item := range f.hosts {
		if name != but && item.Revision > since {
			found = append(found, item)
		}
	}
	if len(found) > atMost {
		slices.SortFunc(found, func(a, b store.Item[*drydockv1.HostRecord]) int { return cmp.Compare(a.Revision, b.Revision) })
		last := found[atMost-1].Revision
		end, _ := slices.BinarySearchFunc(found, last+1, func(item store.Item[*drydockv1.HostRecord], revision int64) int {
			return cmp.Compare(item.Revision, revision)
		})
		if end < len(found) {
			found, to.PeersRevision, to.PeersMore = found[:end], last, true
		}
	}
	for _, item := range found {
		to.Peers = append(to.Peers, (host{record: item.Value}).peer())
	}
}

// tellChanges tells of the hosts that have come, changed or gone after a revision.
func (f *fleet) tellChanges(but string, since int64, atMost int, to *drydockv1.ReportResponse) {
	first, _ := slices.BinarySearchFunc(f.changes, since+1, func(c change, revision int64) int { return cmp.Compare(c.revision, revision) })
	told := make(map[string]bool)
	last := since
	for _, c := range f.changes[first:] {
		if len(told) >= atMost && c.revision != last {
			to.PeersRevision, to.PeersMore = last, true
			return
		}
		last = c.revision
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

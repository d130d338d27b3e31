package orchestrator

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/config"
	"drydock/orchestrator/store"
)

// What is known of the network between two hosts. Pods move only where it is proven.
const (
	linkProven   = "proven"
	linkUnproven = "unproven"
	// linkUnreachable: one agent does not reach the other.
	linkUnreachable = "unreachable"
	// linkFailed: the agents reach each other, but frames of pods do not pass.
	linkFailed = "failed"
)

// links is what all hosts have proven with each other.
type links struct {
	network *drydockv1.PodNetwork
	hosts   map[string]host
	records map[string]*drydockv1.LinkRecord // by key in the store
}

func (c *Controller) links(ctx context.Context) (links, error) {
	hosts, err := c.hosts(ctx)
	if err != nil {
		return links{}, err
	}
	return c.linksOf(ctx, hosts)
}

func (c *Controller) linksOf(ctx context.Context, hosts map[string]host) (links, error) {
	network, err := c.podNetwork(ctx)
	if err != nil {
		return links{}, err
	}
	items, err := store.List[drydockv1.LinkRecord](ctx, c.store, keyLinks)
	if err != nil {
		return links{}, err
	}
	l := links{network: network, hosts: hosts, records: make(map[string]*drydockv1.LinkRecord, len(items))}
	for _, item := range items {
		l.records[item.Key] = item.Value
	}
	return l, nil
}

// kind is what is proven: while nothing is settled, whether the bridge will do.
func (l links) kind() string {
	if kind := l.network.GetKind(); kind != "" {
		return kind
	}
	return config.NetworkBridge
}

// hangsOn is what a host's pods hang on, as it says itself.
func hangsOn(h host) string {
	if kind := h.report.GetInfo().GetNetwork(); kind != "" {
		return kind
	}
	return config.NetworkBridge
}

func ends(a, b host) (first, second host) {
	if a.name() > b.name() {
		return b, a
	}
	return a, b
}

func (l links) record(a, b host) *drydockv1.LinkRecord {
	a, b = ends(a, b)
	return l.records[linkKey(a.name(), b.name())]
}

// current says whether a proof is still about the hosts and the network that there are.
func (l links) current(record *drydockv1.LinkRecord) bool {
	same := func(end *drydockv1.LinkEnd) bool {
		h, ok := l.hosts[end.GetHost()]
		return ok && h.record.GetAddress() == end.GetAddress()
	}
	return record != nil && record.GetKind() == l.kind() && same(record.GetA()) && same(record.GetB())
}

// link is what is known of the network between two hosts.
type link struct {
	state string
	why   *drydockv1.Refusal // nil where it is proven
	tried *timestamppb.Timestamp
}

func (l link) wire(peer string) *drydockv1.HostLink {
	return &drydockv1.HostLink{Peer: peer, State: l.state, Reason: l.why.GetReason(), Remedy: l.why.GetRemedy(), Tried: l.tried}
}

func (l links) between(a, b host) link {
	for _, h := range []host{a, b} {
		if hangsOn(h) == l.kind() {
			continue
		}
		reason := fmt.Sprintf("pods of host %s hang on %s and not on %s yet", h.name(), hangsOn(h), l.kind())
		own := h.report.GetInfo().GetNetworkReason()
		if own == "" {
			return link{state: linkUnproven, why: because(reason, "wait a few seconds")}
		}
		return link{state: linkFailed, why: because(reason+": "+own, "remove that reason on host "+h.name()+", or use another host")}
	}
	record := l.record(a, b)
	if !l.current(record) {
		return link{state: linkUnproven, why: because(
			fmt.Sprintf("nothing has proven yet that the network between %s and %s carries a pod's MAC", a.name(), b.name()),
			"it is tried as soon as both answer; `drydock host doctor "+b.name()+"` tries it now")}
	}
	if record.GetState() == linkProven {
		return link{state: linkProven, tried: record.GetTried()}
	}
	return link{state: record.GetState(), why: because(record.GetReason(), record.GetRemedy()), tried: record.GetTried()}
}

// markApart marks the hosts that no pod can leave: they are chosen last for new ones.
func (l links) markApart(hosts map[string]host) {
	for name, h := range hosts {
		h.apart = len(hosts) > 1
		hosts[name] = h
	}
	for _, record := range l.records {
		a, known := hosts[record.GetA().GetHost()]
		b, both := hosts[record.GetB().GetHost()]
		if !known || !both || l.between(a, b).state != linkProven {
			continue
		}
		a.apart, b.apart = false, false
		hosts[a.name()], hosts[b.name()] = a, b
	}
}

// forgetLinks deletes what was proven with a host.
func (c *Controller) forgetLinks(ctx context.Context, txn *store.Txn, host string) error {
	items, err := store.List[drydockv1.LinkRecord](ctx, c.store, keyLinks)
	for _, item := range items {
		if a, b, _ := strings.Cut(strings.TrimPrefix(item.Key, keyLinks), "/"); a == host || b == host {
			txn.Delete(item.Key)
		}
	}
	return err
}

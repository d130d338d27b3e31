package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/config"
	"drydock/orchestrator/store"
)

const (
	// proveAgain is how long a proof is relied on before it is tried again.
	proveAgain = 10 * time.Minute
	// retryProof is how long after a failure the next try comes.
	retryProof = 15 * time.Second
	// proveWithin bounds one try in one direction.
	proveWithin = 20 * time.Second
)

// proveLinks has hosts prove to each other what moving pods needs of the network - when one joins, boots or changes its
// address, when pods are joined in another way, and from time to time - for as long as the term lasts.
func (c *Controller) proveLinks(r *reign) {
	for {
		if err := c.proveDue(r); err != nil && r.ctx.Err() == nil && !errors.Is(err, store.ErrConflict) {
			c.log.Error("prove the network between hosts", "error", err)
		}
		if !sleep(r.ctx, c.config.Timings.ReconcileInterval) {
			return
		}
	}
}

func (c *Controller) proveDue(r *reign) error {
	if err := c.settleNetwork(r.ctx, r); err != nil {
		return err
	}
	l, err := c.linksOf(r.ctx, c.knownHosts(r))
	if err != nil {
		return err
	}
	names := sortedKeys(l.hosts)
	total := pairs(len(names))
	tried := 0
	for range min(total, lookAtOnce) {
		r.pair = (r.pair + 1) % total
		first, second := pairAt(len(names), r.pair)
		a, b := ends(l.hosts[names[first]], l.hosts[names[second]])
		if !c.due(l, a, b) {
			continue
		}
		if err := c.prove(r.ctx, l, a, b); err != nil {
			return err
		}
		if l.network.GetKind() == "" {
			// What was found may settle how pods are joined, and with it what is to be proven.
			return c.settleNetwork(r.ctx, r)
		}
		if tried++; tried == proveAtOnce {
			return nil
		}
	}
	return nil
}

const (
	// lookAtOnce and proveAtOnce are how many pairs of hosts are looked at, and tried, before everything is read again.
	lookAtOnce  = 5000
	proveAtOnce = 20
	// mostPairs are tried by themselves. Of more than 200 hosts each is tried with its nearest ones in the order of their names.
	mostPairs = 20_000
)

// pairs is how many pairs of n hosts are tried.
func pairs(n int) int { return min(n*(n-1)/2, mostPairs) }

// pairAt is one of the pairs of n hosts: first each with the next one, then with the one after that, and so on.
func pairAt(n, k int) (first, second int) {
	first = k % n
	return first, (first + k/n + 1) % n
}

func (c *Controller) due(l links, a, b host) bool {
	if !a.answers() || !b.answers() || hangsOn(a) != l.kind() || hangsOn(b) != l.kind() || a.report == nil || b.report == nil {
		return false
	}
	record := l.record(a, b)
	if !l.current(record) || record.GetA().GetBootId() != a.record.GetBootId() || record.GetB().GetBootId() != b.record.GetBootId() {
		return true
	}
	age := c.now().Sub(record.GetTried().AsTime())
	return age > proveAgain || record.GetState() != linkProven && age > retryProof
}

// prove has two hosts, named in order, try the network between them both ways, and keeps what they found.
func (c *Controller) prove(ctx context.Context, l links, a, b host) error {
	record := &drydockv1.LinkRecord{
		A:    &drydockv1.LinkEnd{Host: a.name(), Address: a.record.GetAddress(), BootId: a.record.GetBootId()},
		B:    &drydockv1.LinkEnd{Host: b.name(), Address: b.record.GetAddress(), BootId: b.record.GetBootId()},
		Kind: l.kind(), Tried: timestamppb.New(c.now()),
	}
	found, err := c.tryBothWays(ctx, l.kind(), a, b)
	if err != nil {
		return err
	}
	before := l.record(a, b)
	proven := l.current(before) && before.GetState() == linkProven
	if proven && found.state == linkFailed {
		// One lost frame must not stop moves: it has to fail twice.
		if found, err = c.tryBothWays(ctx, l.kind(), a, b); err != nil {
			return err
		}
	}
	if proven && found.state != linkFailed {
		// That a host does not answer now is the business of who wants it to; it says nothing of the network.
		found = link{state: linkProven}
	}
	record.State, record.Reason, record.Remedy = found.state, found.why.GetReason(), found.why.GetRemedy()
	if !l.current(before) || before.GetState() != found.state || before.GetReason() != found.why.GetReason() {
		c.log.Info("network between hosts", "a", a.name(), "b", b.name(), "kind", record.GetKind(), "state", found.state, "reason", record.GetReason())
	}
	// A host that was removed meanwhile leaves no proof behind.
	_, err = c.store.Txn().
		If(store.Unchanged(hostKey(a.name()), a.revision), store.Unchanged(hostKey(b.name()), b.revision)).
		Put(linkKey(a.name(), b.name()), record).Commit(ctx)
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

func (c *Controller) tryBothWays(ctx context.Context, kind string, a, b host) (link, error) {
	// One try at a time, since all of them use the same addresses.
	c.proving.Lock()
	defer c.proving.Unlock()
	here, there, err := c.probeAddresses(ctx)
	if err != nil {
		return link{}, err
	}
	if there == "" {
		return link{state: linkUnproven, why: because("no two addresses are free to try the network with", "remove pods, or enlarge `pod-cidr`")}, nil
	}
	found := c.tryLink(ctx, kind, a, b, here, there)
	if found.state == linkProven {
		found = c.tryLink(ctx, kind, b, a, here, there)
	}
	return found, ctx.Err()
}

// tryLink has one host try whether it reaches another's agent, and whether frames of pods pass between them and back.
func (c *Controller) tryLink(ctx context.Context, kind string, from, to host, here, there string) link {
	ctx, cancel := context.WithTimeout(ctx, proveWithin)
	defer cancel()
	request := &drydockv1.ReachPeerRequest{Peer: to.peer(), ProbeAddress: here, AnswerAddress: there}
	agent, err := c.agents.at(from.record)
	var response *connect.Response[drydockv1.ReachPeerResponse]
	if err == nil {
		response, err = agent.ReachPeer(ctx, connect.NewRequest(request))
	}
	if err != nil {
		return link{state: linkUnreachable, why: because(fmt.Sprintf("host %s was not able to try: %v", from.name(), err), "see the log of its agent")}
	}
	found := response.Msg
	switch {
	case !found.GetReachable():
		return link{state: linkUnreachable, why: because(
			fmt.Sprintf("host %s does not reach host %s: %s", from.name(), to.name(), found.GetReason()),
			fmt.Sprintf("open TCP %s for host %s, and see that the agent there runs", to.record.GetAddress(), from.name()))}
	case found.GetCarriesForeignMac():
		return link{state: linkProven}
	case !found.GetTried():
		return link{state: linkUnproven, why: because(
			fmt.Sprintf("host %s was not able to try the network to %s: %s", from.name(), to.name(), found.GetReason()), "see the logs of both agents")}
	}
	return link{state: linkFailed, why: because(
		fmt.Sprintf("the network from host %s to %s does not carry a pod's MAC: %s", from.name(), to.name(), found.GetReason()), c.remedyFor(kind))}
}

func (c *Controller) remedyFor(kind string) string {
	if kind == config.NetworkVXLAN {
		return fmt.Sprintf("open UDP port %d between the hosts", c.config.Network.Port)
	}
	return "let the switch carry several MACs on the hosts' ports (port security, or a cloud's check of source addresses, is in the way), " +
		"or set `network.kind: vxlan` at the controllers"
}

// probeAddresses are two that no pod has, with prefix length, the last ones, which are given to pods last; empty where there
// are none.
func (c *Controller) probeAddresses(ctx context.Context) (here, there string, err error) {
	taken, err := c.taken(ctx)
	if err != nil {
		return "", "", err
	}
	free := c.lastFree(taken, 2)
	if len(free) < 2 {
		return "", "", nil
	}
	return free[0], free[1], nil
}

package network

import (
	"context"
	"fmt"
	"slices"

	"github.com/vishvananda/netns"
)

// detourTable names the table that exists on the host while a pod's outer end joins the bridge.
func detourTable(pod string) string { return "drydock-" + digest(pod) }

// joinWithDetour makes the outer end a port of the bridge without losing what the pod sends meanwhile. The bridge takes a new
// port's frames a moment before it forwards them. So they are first turned to the holding port, ahead of the bridge, and back
// when the port forwards; each step happens between two frames. A kernel that cannot turn them (nft_fwd_netdev) loses what
// the pod sends in that moment, as a network may: that is no reason to leave a pod that was committed here unplugged.
func (h *Hold) joinWithDetour(ctx context.Context) error {
	n := h.network
	script := fmt.Sprintf("table netdev %s {\n chain out {\n type filter hook ingress device %q priority -500\n fwd to %q\n }\n}\n",
		detourTable(n.cfg.Pod), outerName(n.cfg.Pod), tapName(n.cfg.Pod))
	_ = nft(ctx, n.host.ns, script)
	if err := n.join(ctx); err != nil {
		return err
	}
	h.joined.Store(true) // at once: until then the pod gets each broadcast twice, and answers it twice
	return endDetour(context.WithoutCancel(ctx), n.host.ns, n.cfg.Pod)
}

// endDetour removes the detour if there is one. Without the holding port it would lead nowhere, so it goes first.
func endDetour(ctx context.Context, ns netns.NsHandle, pod string) error {
	tables, err := tableNames(ns)
	if err != nil {
		return err
	}
	table := "netdev " + detourTable(pod)
	if !slices.Contains(tables, table) {
		return nil
	}
	return nft(ctx, ns, "delete table "+table)
}

package network

import (
	"context"
	"fmt"
	"net"

	"github.com/vishvananda/netns"
)

// Dial connects from inside the pod's network, as one of its programs would. Address must be numeric: names would be
// resolved on other threads, in the host's network.
func (n *Network) Dial(ctx context.Context, protocol, address string) (net.Conn, error) {
	ns, err := netns.GetFromPath(n.Path())
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", n.Path(), err)
	}
	defer ns.Close()
	var conn net.Conn
	err = within(ns, func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, protocol, address)
		return err
	})
	return conn, err
}

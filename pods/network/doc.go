// Package network owns the network of a pod on one host, and keeps its packets while the pod moves.
//
// A pod's network is a namespace pinned by a bind mount, with eth0 inside and its outer end on the host. The outer end is
// either plugged in (a port of the host's bridge) or unplugged (a port of nothing: no frame passes in either direction, but
// eth0 keeps its carrier, so routes, neighbours and TCP repair work). Both operations are safe to repeat.
//
// While a pod moves, a Hold on the destination announces the pod's address and keeps the frames that come for the pod and
// the frames that the restored pod sends before it is plugged in. Release hands them over in order.
//
// State is what a namespace holds beyond its interface: addresses, routes, rules, sysctls, nftables, neighbours and
// connection tracking. It is taken on the source and loaded on the destination before CRIU restores the sockets.
//
// Everything that this package makes on a host carries the label "drydock:POD" as its link alias, or lies in the directory
// that the Host was given; nothing else is touched. docs/network.md explains why holding works.
package network

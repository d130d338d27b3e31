package network

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// stateVersion is raised when a State is written that an older reader would misunderstand.
const stateVersion = 1

// State is what a pod's namespace holds beyond its two links. It is made of two halves: Static may be saved while the pod
// runs, Dynamic is small and saved within the freeze.
type State struct {
	Static  StaticState  `json:"static"`
	Dynamic DynamicState `json:"dynamic"`
}

// StaticState is what only an administrator of the namespace changes. A message is one of rtnetlink, as the kernel
// dumped it: it keeps every attribute, also those that this version does not know.
type StaticState struct {
	Version   int       `json:"version"`
	Addresses []Address `json:"addresses,omitempty"`
	Routes    [][]byte  `json:"routes,omitempty"`
	Rules     [][]byte  `json:"rules,omitempty"`
	Sysctls   []Sysctl  `json:"sysctls,omitempty"`
	Ruleset   string    `json:"ruleset,omitempty"` // in nft's words
}

// DynamicState is what the kernel learns from traffic.
type DynamicState struct {
	Version   int        `json:"version"`
	Neighbors []Neighbor `json:"neighbors,omitempty"`
	Conntrack [][]byte   `json:"conntrack,omitempty"` // messages of ctnetlink
}

// Save returns the whole state.
func (n *Network) Save(ctx context.Context) (State, error) {
	static, err := n.SaveStatic(ctx)
	if err != nil {
		return State{}, err
	}
	dynamic, err := n.SaveDynamic(ctx)
	return State{Static: static, Dynamic: dynamic}, err
}

// Load makes the namespace hold the state. It may be called again, also with a newer state.
func (n *Network) Load(ctx context.Context, state State) error {
	if err := n.LoadStatic(ctx, state.Static); err != nil {
		return err
	}
	return n.LoadDynamic(ctx, state.Dynamic)
}

// SaveStatic returns addresses, routes, rules, sysctls and the nftables ruleset. It refuses what it could not load again:
// interfaces that the pod made, and rules that iptables made with its own extensions.
func (n *Network) SaveStatic(ctx context.Context) (StaticState, error) {
	state := StaticState{Version: stateVersion}
	err := n.inside(func(ns netns.NsHandle, handle *netlink.Handle) (err error) {
		if err := refuseLinks(handle); err != nil {
			return err
		}
		if state.Addresses, err = saveAddresses(handle); err != nil {
			return err
		}
		if state.Routes, err = saveRoutes(ns); err != nil {
			return err
		}
		if state.Rules, err = saveRules(ns); err != nil {
			return err
		}
		if state.Sysctls, err = saveSysctls(ns); err != nil {
			return err
		}
		state.Ruleset, err = saveRuleset(ctx, ns)
		return err
	})
	if err != nil {
		return StaticState{}, fmt.Errorf("save network of pod %s: %w", n.cfg.Pod, err)
	}
	return state, nil
}

// LoadStatic makes the namespace hold the state. Sysctls go first, because some of them reset others or remove addresses,
// and routes after the addresses that they need.
func (n *Network) LoadStatic(ctx context.Context, state StaticState) error {
	if err := checkVersion(state.Version); err != nil {
		return fmt.Errorf("load network of pod %s: %w", n.cfg.Pod, err)
	}
	err := n.inside(func(ns netns.NsHandle, handle *netlink.Handle) error {
		if err := loadSysctls(ns, state.Sysctls); err != nil {
			return err
		}
		if err := loadAddresses(handle, state.Addresses); err != nil {
			return err
		}
		if err := loadRules(ns, state.Rules); err != nil {
			return err
		}
		if err := loadRoutes(ns, state.Routes); err != nil {
			return err
		}
		return loadRuleset(ctx, ns, state.Ruleset)
	})
	if err != nil {
		return fmt.Errorf("load network of pod %s: %w", n.cfg.Pod, err)
	}
	return nil
}

// SaveDynamic returns neighbours and tracked connections.
func (n *Network) SaveDynamic(ctx context.Context) (DynamicState, error) {
	state := DynamicState{Version: stateVersion}
	err := n.inside(func(ns netns.NsHandle, handle *netlink.Handle) (err error) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if state.Neighbors, err = saveNeighbors(handle); err != nil {
			return err
		}
		state.Conntrack, err = saveConntrack(ns)
		return err
	})
	if err != nil {
		return DynamicState{}, fmt.Errorf("save network of pod %s: %w", n.cfg.Pod, err)
	}
	return state, nil
}

// LoadDynamic makes the namespace hold the state. The ruleset must be loaded already: without one that tracks connections
// or translates addresses the kernel has no place for its entries.
func (n *Network) LoadDynamic(ctx context.Context, state DynamicState) error {
	if err := checkVersion(state.Version); err != nil {
		return fmt.Errorf("load network of pod %s: %w", n.cfg.Pod, err)
	}
	err := n.inside(func(ns netns.NsHandle, handle *netlink.Handle) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := loadNeighbors(handle, state.Neighbors); err != nil {
			return err
		}
		return loadConntrack(ns, state.Conntrack)
	})
	if err != nil {
		return fmt.Errorf("load network of pod %s: %w", n.cfg.Pod, err)
	}
	return nil
}

func (n *Network) inside(f func(netns.NsHandle, *netlink.Handle) error) error {
	ns, handle, done, err := open(n.Path())
	if err != nil {
		return err
	}
	defer done()
	return f(ns, handle)
}

func checkVersion(version int) error {
	if version < 1 || version > stateVersion {
		return fmt.Errorf("state has version %d, this drydock reads 1 to %d: update it on this host", version, stateVersion)
	}
	return nil
}

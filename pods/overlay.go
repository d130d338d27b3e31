package pods

import (
	"context"
	"fmt"
	"net/netip"

	"drydock/pods/network"
)

// bridge is what new pods hang on.
func (r *Runtime) bridge() string {
	if r.overlaid.Load() {
		return network.OverlayBridge
	}
	return r.cfg.Bridge
}

// SetOverlay makes this host a part of a VXLAN, or changes what is there, and lets new pods hang on it. Those that are here
// already follow with Hang.
func (r *Runtime) SetOverlay(o network.Overlay) error {
	if err := r.net.SetOverlay(o); err != nil {
		return err
	}
	r.overlaid.Store(true)
	return nil
}

// LeaveOverlay lets new pods hang on the configured bridge again.
func (r *Runtime) LeaveOverlay() { r.overlaid.Store(false) }

// RemoveOverlay removes what SetOverlay made; no pod may hang on it.
func (r *Runtime) RemoveOverlay() error { return r.net.RemoveOverlay() }

// Hang makes a pod hang on what new pods hang on.
func (r *Runtime) Hang(ctx context.Context, pod string) error {
	n, err := r.Network(ctx, pod)
	if err != nil {
		return err
	}
	return n.Hang(r.bridge())
}

// HangsRight is an error for a pod that is plugged into something else than new pods are.
func (r *Runtime) HangsRight(ctx context.Context, pod string) error {
	n, err := r.Network(ctx, pod)
	if err != nil {
		return err
	}
	plugged, err := n.Plugged()
	if err == nil && plugged && n.Config().Bridge != r.bridge() {
		err = fmt.Errorf("pod %s hangs on %s still, and not on %s: it is busy", pod, n.Config().Bridge, r.bridge())
	}
	return err
}

// AnswerProbe makes a network as a pod's at address, until done is called; see network.Probe.
func (r *Runtime) AnswerProbe(ctx context.Context, name, host string, address netip.Prefix) (done func() error, err error) {
	return r.net.Answer(ctx, network.Probe{Name: name, Host: host, Bridge: r.bridge(), Address: address})
}

// Probe finds out whether frames of pods pass between this host and the one that answers at peer; see network.Probe.
func (r *Runtime) Probe(ctx context.Context, name, host string, address netip.Prefix, peer netip.Addr) error {
	return r.net.Reach(ctx, network.Probe{Name: name, Host: host, Bridge: r.bridge(), Address: address}, peer)
}

// SweepProbes removes what probes of an earlier process left.
func (r *Runtime) SweepProbes(ctx context.Context) error { return r.net.SweepProbes(ctx) }

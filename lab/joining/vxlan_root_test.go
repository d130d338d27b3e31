//go:build root

package joining

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab"
	"drydock/lab/load"
	"drydock/lab/rig"
)

func TestWhereTheSwitchKnowsOneMACOfEachHostPodsMoveOverAVXLAN(t *testing.T) {
	r := secured(t, 3, "")
	for _, name := range r.Hosts() {
		h := host(t, r, name)
		if h.Info.Network != "vxlan" || !strings.Contains(h.Info.NetworkReason, "does not carry a pod's MAC") || !linked(h, "proven") || h.Message != "" {
			t.Fatalf("host %s: network %s (%s), %q, links %v", name, h.Info.Network, h.Info.NetworkReason, h.Message, h.Links)
		}
	}
	pod := runRedis(t, r)
	if pod.Spec.Mtu != 1450 {
		t.Errorf("the pod's MTU is %d", pod.Spec.Mtu)
	}
	openGateway(t, r, "h3")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	address := netip.MustParsePrefix(pod.Spec.Addresses[0]).Addr().String() + ":6379"
	dialer := load.Dialer{Netns: r.NetNS(lab.ClientNode)}
	var writers *load.RedisWriters
	for {
		var err error
		writers, err = load.StartRedisWriters(ctx, load.RedisConfig{Dialer: dialer, Addr: address, Connections: 5, Rate: 200, ValueSize: 4096, Fill: true})
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("Redis does not answer: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	for _, m := range []struct {
		to   string
		mode drydockv1.MigrationMode
	}{
		{"h2", drydockv1.MigrationMode_MIGRATION_MODE_STOP}, {"h1", drydockv1.MigrationMode_MIGRATION_MODE_POSTCOPY},
		{"h3", drydockv1.MigrationMode_MIGRATION_MODE_STOP}, // the gateway itself
		{"h2", drydockv1.MigrationMode_MIGRATION_MODE_STOP},
	} {
		report, err := r.Move(ctx, "cache", m.to, m.mode, nil)
		if err != nil {
			t.Fatal(err)
		}
		before := writers.Acked()
		for writers.Acked() < before+100 {
			select {
			case <-ctx.Done():
				t.Fatalf("nothing is acknowledged any more on %s", m.to)
			case <-time.After(10 * time.Millisecond):
			}
		}
		t.Logf("to %s: freeze %s", m.to, report.Freeze.AsDuration())
	}
	result, err := writers.Stop(ctx)
	if err != nil || !result.Flawless() {
		t.Errorf("got %+v, %v", result, err)
	}
}

// openGateway makes a host the gateway between pods and the client, as docs/network.md says.
func openGateway(t *testing.T, r *rig.Rig, host string) {
	t.Helper()
	in(t, r, host, "ip", "addr", "add", lab.PodGateway+"/17", "dev", "drydock-overlay")
	err := r.InNetNS(host, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) })
	if err != nil {
		t.Fatal(err)
	}
	in(t, r, lab.ClientNode, "ip", "route", "add", lab.PodCIDR, "via", r.Address(host))
}

func TestAHostThatBootsIsInTheVXLANBeforeItsPodsAre(t *testing.T) {
	r := secured(t, 2, "vxlan")
	runRedis(t, r)
	before := host(t, r, "h2").BootId
	if err := r.RebootHost(t.Context(), "h2"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for host(t, r, "h2").BootId == before {
		select {
		case <-ctx.Done():
			t.Fatal("the controller never heard of h2's new boot")
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := rig.Ready(ctx, r.Lab, r.Hosts()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Move(ctx, "cache", "h2", drydockv1.MigrationMode_MIGRATION_MODE_STOP, nil); err != nil {
		t.Fatal(err)
	}
}

//go:build root

package network

import (
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// run runs a command in the pod's namespace and returns what it says.
func run(t *testing.T, n *Network, input, name string, args ...string) string {
	t.Helper()
	var out []byte
	inPod(t, n, func() (err error) {
		cmd := exec.Command(name, args...)
		cmd.Stdin = strings.NewReader(input)
		out, err = cmd.CombinedOutput()
		if err != nil {
			t.Logf("%s %v: %s", name, args, out)
		}
		return err
	})
	return string(out)
}

func comparable() cmp.Options {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmpopts.EquateEmpty(),
	}
}

func TestStateComesOverWhole(t *testing.T) {
	w := newWire(t)
	ctx := t.Context()
	at, to := w.create(t, w.a), w.create(t, w.b)
	for _, line := range []string{
		"addr add 10.78.0.1/32 dev lo",
		"addr add fd78::1/128 dev lo",
		"addr add 10.79.0.5/24 dev eth0 label eth0:1",
		"route add 192.0.2.0/24 via 10.77.0.2 metric 7",
		"route add 198.51.100.0/24 via 10.77.0.3 table 100",
		"route add unreachable 203.0.113.0/24",
		"route add 10.90.0.0/24 nexthop via 10.77.0.2 weight 2 nexthop via 10.77.0.3",
		"-6 route add 2001:db8::/64 via fd77::2 table 100",
		"-6 route add default via fd77::1",
		"rule add from 10.79.0.5 table 100 priority 1000",
		"-6 rule add from fd78::1 table 100 priority 1000",
		"route del default",
		"neigh add 10.77.0.40 lladdr 02:00:00:00:00:40 dev eth0 nud permanent",
		"neigh add 10.77.0.41 lladdr 02:00:00:00:00:41 dev eth0 nud reachable",
		"neigh add fd77::42 lladdr 02:00:00:00:00:42 dev eth0 router nud stale",
	} {
		run(t, at, "", "ip", strings.Fields(line)...)
	}
	inPod(t, at, func() error {
		for name, value := range map[string]string{
			"ipv4/ip_forward": "1", "ipv4/conf/eth0/rp_filter": "2", "ipv6/conf/default/hop_limit": "33",
			"ipv4/ip_local_port_range": "20000\t30000", "ipv4/tcp_keepalive_time": "77", "core/somaxconn": "99",
			"ipv4/neigh/eth0/gc_stale_time": "61", "ipv6/conf/all/forwarding": "1",
		} {
			must(t, os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644))
		}
		return nil
	})
	run(t, at, "table inet ddnt {\n set allowed { type ipv4_addr; flags timeout; elements = { 10.77.0.9 timeout 1h } }\n"+
		"chain in { type filter hook input priority 0; ip saddr @allowed counter accept; }\n}\n"+
		"table ip CRIU-1 {\n}\n", "nft", "-f", "-")

	state, err := at.Save(ctx)
	must(t, err)
	encoded, err := json.Marshal(state)
	must(t, err)
	t.Logf("state takes %d bytes", len(encoded))
	var decoded State
	must(t, json.Unmarshal(encoded, &decoded))
	must(t, to.Load(ctx, decoded))
	must(t, to.Load(ctx, decoded))
	got, err := to.Save(ctx)
	must(t, err)
	got.Static.Ruleset, state.Static.Ruleset = withoutExpiry(got.Static.Ruleset), withoutExpiry(state.Static.Ruleset)
	if diff := cmp.Diff(state, got, comparable()); diff != "" {
		t.Errorf("state after load (-saved +loaded):\n%s", diff)
	}
	for _, show := range []string{"route show table all", "-6 route show table all", "rule", "-6 rule", "-br addr"} {
		if diff := cmp.Diff(run(t, at, "", "ip", strings.Fields(show)...), run(t, to, "", "ip", strings.Fields(show)...)); diff != "" {
			t.Errorf("ip %s (-source +destination):\n%s", show, diff)
		}
	}
	if strings.Contains(state.Static.Ruleset, "CRIU") {
		t.Error("CRIU's lock came along")
	}
}

func withoutExpiry(ruleset string) string {
	var kept []string
	for _, word := range strings.Fields(ruleset) {
		if len(kept) > 0 && kept[len(kept)-1] == "expires" {
			continue
		}
		kept = append(kept, word)
	}
	return strings.Join(kept, " ")
}

// redirected sends what comes for port 80 to port 7000, and lets in only what belongs to a connection that began as it must.
const redirected = `table inet ddnt {
 chain pre { type nat hook prerouting priority -100; tcp dport 80 redirect to :7000; }
 chain in { type filter hook input priority 0; policy drop; icmpv6 type { 133-137 } accept; ct state established,related accept; tcp flags syn ct state new accept; }
}
`

func TestATranslatedConnectionIsKnownAtTheDestination(t *testing.T) {
	w := newWire(t)
	ctx := t.Context()
	at, to := w.create(t, w.a), w.create(t, w.b)
	run(t, at, strings.Replace(redirected, "133-137", "nd-neighbor-solicit, nd-neighbor-advert", 1), "nft", "-f", "-")
	must(t, at.PlugIn(ctx))
	echo(t, at)
	conn := w.dial(t, "tcp", net.JoinHostPort(podAddr, "80"))
	_, err := conn.Write([]byte("x"))
	must(t, err)
	_, err = conn.Read(make([]byte, 1))
	must(t, err)
	state, err := at.Save(ctx)
	must(t, err)
	if len(state.Dynamic.Conntrack) == 0 {
		t.Fatal("no tracked connection was saved")
	}
	must(t, to.Load(ctx, state))
	must(t, to.Load(ctx, state))
	got, err := to.SaveDynamic(ctx)
	must(t, err)
	if len(got.Conntrack) != len(state.Dynamic.Conntrack) {
		t.Fatalf("%d connections saved, %d loaded", len(state.Dynamic.Conntrack), len(got.Conntrack))
	}
	for i, entry := range state.Dynamic.Conntrack {
		if diff := cmp.Diff(essence(entry), essence(got.Conntrack[i])); diff != "" {
			t.Errorf("connection %d (-saved +loaded):\n%s", i, diff)
		}
	}
	// Nothing listens at the destination. If the segment is translated there, the kernel answers with a reset from port 7000,
	// which the client gets as one from port 80; untranslated it is no part of a known connection and is dropped.
	must(t, at.Unplug(ctx))
	must(t, to.PlugIn(ctx))
	_, err = conn.Write([]byte("y"))
	must(t, err)
	must(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
	if _, err := conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("the client's segment was answered with %v, want a reset through the translation", err)
	}
}

// essence is what of an entry must be the same on both sides.
func essence(entry []byte) map[uint16][]byte {
	kept := map[uint16][]byte{}
	for _, attr := range parseAttributes(entry[nfHeader:]) {
		switch attr.kind {
		case ctTupleOrig, ctTupleReply, ctMark, ctZone:
			kept[attr.kind] = attr.value()
		case ctStatus:
			const translation = ctSourceNAT | ctDestNAT | ctSettable
			kept[attr.kind] = []byte{attr.value()[3] & translation}
		}
	}
	return kept
}

func TestAnOwnInterfaceIsRefused(t *testing.T) {
	w := newWire(t)
	n := w.create(t, w.a)
	run(t, n, "", "ip", "link", "add", "ddnt-own", "type", "bridge")
	run(t, n, "", "ip", "link", "set", "ddnt-own", "up")
	if _, err := n.SaveStatic(t.Context()); err == nil || !strings.Contains(err.Error(), "ddnt-own") {
		t.Errorf("saving a pod with a bridge of its own: %v, want a refusal that names it", err)
	}
}

func TestANewerStateIsRefused(t *testing.T) {
	w := newWire(t)
	n := w.create(t, w.a)
	if err := n.Load(t.Context(), State{Static: StaticState{Version: stateVersion + 1}}); err == nil {
		t.Error("a state of a newer version was loaded")
	}
}

//go:build root

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/lab"
	"drydock/lab/load"
	"drydock/lab/shop"
	"drydock/pods/manifest"
)

// sold is an order as its writer knows it.
type sold struct {
	amount int
	note   string
}

// in is the order as a version has it.
func (s sold) in(version string) string {
	switch {
	case version == "v1":
		return fmt.Sprintf(`{"cents":%d}`, s.amount)
	case version == "v2" || s.note == "":
		return fmt.Sprintf(`{"amount":%d,"currency":"EUR"}`, s.amount)
	}
	return fmt.Sprintf(`{"amount":%d,"currency":"EUR","note":"%s"}`, s.amount, s.note)
}

// ledger has the orders that were acknowledged, and the calls that failed.
type ledger struct {
	front string

	mu     sync.Mutex
	ids    []string
	orders map[string]sold
	calls  int
	failed []string
}

// call makes one call as a client of a version, and returns what was answered. It may wait for an upgrade, or for a move.
func (l *ledger) call(client *http.Client, version, method, id, body string) string {
	return callShop(client, l.front, version, method, id, body)
}

func (l *ledger) expect(got, want, what string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if got != want {
		l.failed = append(l.failed, fmt.Sprintf("%s: %s, not %s", what, got, want))
	}
	return got == want
}

// trade writes orders as a client of a version, and reads what any client has written, until stop is closed.
func (l *ledger) trade(client *http.Client, version string, stop chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-time.After(5 * time.Millisecond):
		}
		id, order := fmt.Sprintf("%s-%d", version, i), sold{amount: 1 + i}
		if version == "v3" {
			order.note = fmt.Sprint("note ", i)
		}
		if l.expect(l.call(client, version, http.MethodPut, id, order.in(version)), "204", "write "+id) {
			l.mu.Lock()
			l.ids, l.orders[id] = append(l.ids, id), order
			l.mu.Unlock()
		}
		l.mu.Lock()
		if len(l.ids) > 0 {
			id = l.ids[rand.IntN(len(l.ids))]
		}
		order = l.orders[id]
		l.mu.Unlock()
		l.read(client, version, id, order)
	}
}

func (l *ledger) read(client *http.Client, version, id string, order sold) {
	l.expect(l.call(client, version, http.MethodGet, id, ""), "200 "+order.in(version), "read "+id+" as "+version)
}

// good waits for calls that begin from now on.
func (l *ledger) good(t *testing.T, after string) {
	t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.calls
	}
	before := count()
	until(t, "calls "+after, func() bool { return count() > before+60 })
	l.none(t, after)
}

// none looks that no call has failed.
func (l *ledger) none(t *testing.T, after string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("%s: %d calls, %d orders, %d failed", after, l.calls, len(l.ids), len(l.failed))
	if len(l.failed) > 0 {
		t.Fatalf("%s: %s", after, strings.Join(l.failed[:min(len(l.failed), 5)], "\n"))
	}
}

func shopClient() *http.Client {
	return &http.Client{Timeout: 15 * time.Minute, Transport: &http.Transport{DialContext: load.Dialer{Netns: shared.NetNS(lab.ClientNode)}.DialContext}}
}

func TestClientsOfAllVersionsBehindAGatewayLoseNothingWhilePodsAreUpgradedAndMove(t *testing.T) {
	openShop(t, shop.Record+shop.Gateway, "desk-0", "desk-1", "desk-2")
	until(t, "the gateway has all servers, and these have shims", func() bool {
		got := try(t, "shim", "show", "shop-front", "-o", "json")
		return got.status == 0 && strings.Count(got.out, `"healthy": true`) == 3 && pod(t, "desk-0").Spec.Shim != nil && pod(t, "desk-2").Spec.Shim != nil
	})
	front := pod(t, "shop-front")
	if front.Spec.Labels[manifest.LabelGateway] != "shop" {
		t.Errorf("the gateway is %v", front.Spec)
	}
	prefix, err := netip.ParsePrefix(front.Spec.Addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	l := &ledger{front: fmt.Sprintf("http://%s:8080", prefix.Addr()), orders: map[string]sold{}}
	stop := make(chan struct{})
	var group sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); group.Wait() })
	t.Cleanup(end)
	for _, version := range shop.Versions {
		group.Go(func() { l.trade(shopClient(), version, stop) })
	}
	l.good(t, "at the beginning")
	do(t, "service", "upgrade", "shop", "--to", "v2", "--image", "shop:v2", "--pod", "desk-0")
	l.good(t, "after the first pod")
	move(t, "desk-0", "h2")
	l.good(t, "after the move of an upgraded pod")
	do(t, "service", "upgrade", "shop", "--to", "v2", "--image", "shop:v2")
	l.good(t, "in v2")
	other := map[string]string{"h1": "h2", "h2": "h3", "h3": "h1"}[pod(t, "shop-front").Host]
	move(t, "shop-front", other)
	l.good(t, "after the gateway's move")
	do(t, "service", "upgrade", "shop", "--to", "v3", "--image", "shop:v3")
	l.good(t, "in v3")
	end()
	client := shopClient()
	for id, order := range l.orders {
		for _, version := range shop.Versions {
			l.read(client, version, id, order)
		}
	}
	l.none(t, "in the end")
	for _, name := range []string{"desk-0", "desk-1", "desk-2"} {
		do(t, "pod", "rm", name, "--force")
	}
	do(t, "service", "rm", "shop")
	until(t, "the gateway's end", func() bool { return try(t, "pod", "inspect", "shop-front").status != 0 })
}

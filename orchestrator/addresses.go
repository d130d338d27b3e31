package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/store"
)

// taken are the addresses that pods have, with their pods.
func (c *Controller) taken(ctx context.Context) (map[netip.Addr]string, error) {
	response, err := c.store.Client().Get(ctx, keyAddresses, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	taken := make(map[netip.Addr]string, len(response.Kvs))
	for _, kv := range response.Kvs {
		addr, err := netip.ParseAddr(strings.TrimPrefix(string(kv.Key), keyAddresses))
		if err != nil {
			return nil, fmt.Errorf("address in the store: %w", err)
		}
		taken[addr] = string(kv.Value)
	}
	return taken, nil
}

// free is the first address of the pods' range that nobody has.
func (c *Controller) free(taken map[netip.Addr]string) (netip.Addr, error) {
	pods := netip.MustParsePrefix(c.config.PodCIDR)
	for addr := pods.Addr().Next(); pods.Contains(addr); addr = addr.Next() {
		if _, ok := taken[addr]; !ok && c.usable(addr) {
			return addr, nil
		}
	}
	return netip.Addr{}, refuse("find an address", because("all of "+pods.String()+" is in use", "remove pods, or enlarge `pod-cidr`"))
}

// usable says whether an address may be a pod's: not the network's first or last, and not the gateway.
func (c *Controller) usable(addr netip.Addr) bool {
	network := c.config.PodNetwork()
	return network.Contains(addr) && addr != network.Addr() && addr != lastOf(network) &&
		addr != lastOf(netip.MustParsePrefix(c.config.PodCIDR)) && addr.String() != c.config.Gateway
}

func lastOf(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Masked().Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 1 << (7 - bit%8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

// lastFree are the last addresses that no pod has, with prefix length, as many as there are up to count.
func (c *Controller) lastFree(taken map[netip.Addr]string, count int) []string {
	var free []string
	pods := netip.MustParsePrefix(c.config.PodCIDR)
	for addr := lastOf(pods); pods.Contains(addr) && len(free) < count; addr = addr.Prev() {
		if _, ok := taken[addr]; !ok && c.usable(addr) {
			free = append(free, c.withPrefix(addr))
		}
	}
	return free
}

func (c *Controller) withPrefix(addr netip.Addr) string {
	return netip.PrefixFrom(addr, c.config.PodNetwork().Bits()).String()
}

// asked are the addresses that a spec asks for, completed with the prefix length.
func (c *Controller) asked(spec *drydockv1.PodSpec) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for i, text := range spec.GetAddresses() {
		host, bits, _ := strings.Cut(text, "/")
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return nil, invalid("pod %s: %q is no address", spec.GetName(), text)
		}
		network := c.config.PodNetwork()
		if !c.usable(addr) {
			return nil, invalid("pod %s: address %s is none that a pod can have: choose one of %s", spec.GetName(), addr, network)
		}
		if bits != "" && bits != fmt.Sprint(network.Bits()) {
			return nil, invalid("pod %s: address %s has another prefix length than the pods' network %s", spec.GetName(), text, network)
		}
		spec.Addresses[i] = c.withPrefix(addr)
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// claim writes a new pod's record together with its addresses: those that it asks for, or the first that is free.
func (c *Controller) claim(ctx context.Context, r *reign, record *drydockv1.PodRecord) error {
	spec := record.GetSpec()
	asked, err := c.asked(spec)
	if err != nil {
		return err
	}
	if spec.Mtu, err = c.podMTU(ctx); err != nil {
		return err
	}
	for {
		addrs, err := c.choose(ctx, spec, asked)
		if err != nil {
			return err
		}
		spec.Gateway = c.config.Gateway
		spec.Mac = macFor(addrs[0]).String()
		spec.Addresses = spec.Addresses[:0]
		txn := c.store.Txn().If(r.term.Holds(), store.Unchanged(podKey(spec.GetName()), 0))
		for _, addr := range addrs {
			spec.Addresses = append(spec.Addresses, c.withPrefix(addr))
			txn.If(store.Unchanged(addressKey(addr.String()), 0)).PutBytes(addressKey(addr.String()), []byte(spec.GetName()))
		}
		_, err = txn.Put(podKey(spec.GetName()), record).Commit(ctx)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		if err := c.stillNew(ctx, r, spec.GetName()); err != nil {
			return err
		}
	}
}

func (c *Controller) choose(ctx context.Context, spec *drydockv1.PodSpec, asked []netip.Addr) ([]netip.Addr, error) {
	taken, err := c.taken(ctx)
	if err != nil {
		return nil, err
	}
	var reasons []*drydockv1.Refusal
	for _, addr := range asked {
		if pod, ok := taken[addr]; ok {
			reasons = append(reasons, because(fmt.Sprintf("address %s is pod %s's", addr, pod), "choose another, or none to be given one"))
		}
	}
	if err := refuse("run pod "+spec.GetName(), reasons...); err != nil || len(asked) > 0 {
		return asked, err
	}
	addr, err := c.free(taken)
	return []netip.Addr{addr}, err
}

// stillNew says why a claim that conflicted need not be tried again.
func (c *Controller) stillNew(ctx context.Context, r *reign, name string) error {
	if _, err := c.pod(ctx, name); err == nil {
		return errPodExists(name)
	}
	return c.stillLeads(ctx, r)
}

// macFor is a locally administered MAC that belongs to an address: unique as long as that is, and the same when a pod
// gets the address again, so that its neighbours' tables stay right.
func macFor(addr netip.Addr) net.HardwareAddr {
	bytes := addr.AsSlice()
	return append(net.HardwareAddr{0x02, 0xdd}, bytes[len(bytes)-4:]...)
}

// addressesOf are a spec's addresses without prefix length, as they are claimed.
func addressesOf(spec *drydockv1.PodSpec) []string {
	addresses := make([]string, 0, len(spec.GetAddresses()))
	for _, address := range spec.GetAddresses() {
		host, _, _ := strings.Cut(address, "/")
		addresses = append(addresses, host)
	}
	return addresses
}

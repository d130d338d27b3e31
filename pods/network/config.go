package network

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
)

// Config is the network that a pod is to have. It is the same on every host that the pod moves to.
type Config struct {
	Pod       string           // a DNS label or name
	Addresses []netip.Prefix   // with the length of the network that they are in
	Gateway   netip.Addr       // optional: next hop of the default route
	MAC       net.HardwareAddr // 6 bytes, unicast
	MTU       int              // bytes; 0 means 1500
	Bridge    string           // the host's bridge that the pod is plugged into
}

const defaultMTU = 1500

var nameForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)

func validName(pod string) error {
	if len(pod) > 128 || !nameForm.MatchString(pod) {
		return fmt.Errorf("pod name %q is not a lower-case DNS name", pod)
	}
	return nil
}

// Validate returns every fault of the configuration at once.
func (c Config) Validate() error {
	var faults []error
	if err := validName(c.Pod); err != nil {
		faults = append(faults, err)
	}
	if len(c.MAC) != 6 || c.MAC[0]&1 != 0 {
		faults = append(faults, fmt.Errorf("pod %s: MAC %q is not a unicast Ethernet address", c.Pod, c.MAC))
	}
	if c.Bridge == "" || len(c.Bridge) > 15 {
		faults = append(faults, fmt.Errorf("pod %s: bridge %q is not a link name", c.Pod, c.Bridge))
	}
	if c.MTU != 0 && (c.MTU < 576 || c.MTU > 65535) {
		faults = append(faults, fmt.Errorf("pod %s: MTU %d is not between 576 and 65535", c.Pod, c.MTU))
	}
	if len(c.Addresses) == 0 {
		faults = append(faults, fmt.Errorf("pod %s: no address given", c.Pod))
	}
	reachable := !c.Gateway.IsValid()
	for _, prefix := range c.Addresses {
		if !prefix.IsValid() || prefix.Addr().IsMulticast() || prefix.Addr().IsUnspecified() || prefix.Addr().Is4In6() {
			faults = append(faults, fmt.Errorf("pod %s: address %s cannot be given to an interface", c.Pod, prefix))
		}
		reachable = reachable || prefix.Contains(c.Gateway)
	}
	if !reachable && !c.Gateway.IsLinkLocalUnicast() {
		faults = append(faults, fmt.Errorf("pod %s: gateway %s is in none of the pod's networks", c.Pod, c.Gateway))
	}
	return errors.Join(faults...)
}

func (c Config) mtu() int {
	if c.MTU == 0 {
		return defaultMTU
	}
	return c.MTU
}

// Names of the host's links for a pod: 14 of the 15 characters that the kernel allows.
func outerName(pod string) string { return "dd" + digest(pod) } // outer end of eth0
func holdName(pod string) string  { return "dh" + digest(pod) } // holding port on the bridge
func tapName(pod string) string   { return "dt" + digest(pod) } // end of the holding port that is read

func digest(pod string) string {
	sum := sha256.Sum256([]byte(pod))
	return hex.EncodeToString(sum[:6])
}

// outerMAC is the address of the host's end. It is high, because a bridge takes the lowest address among its ports as its
// own and would change it whenever a pod comes or goes.
func outerMAC(name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(name))
	return net.HardwareAddr{0xfe, sum[0], sum[1], sum[2], sum[3], sum[4]}
}

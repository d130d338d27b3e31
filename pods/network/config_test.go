package network

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestEveryFaultOfAConfigurationIsNamed(t *testing.T) {
	good := func() Config {
		return Config{
			Pod: "redis", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Bridge: "br0",
			Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.5/24")}, Gateway: netip.MustParseAddr("192.0.2.1"),
		}
	}
	if err := good().Validate(); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
	tests := map[string]struct {
		spoil func(*Config)
		want  string
	}{
		"path as name":      {func(c *Config) { c.Pod = "../x" }, "pod name"},
		"multicast MAC":     {func(c *Config) { c.MAC[0] = 1 }, "unicast"},
		"no bridge":         {func(c *Config) { c.Bridge = "" }, "bridge"},
		"tiny MTU":          {func(c *Config) { c.MTU = 100 }, "MTU"},
		"no address":        {func(c *Config) { c.Addresses, c.Gateway = nil, netip.Addr{} }, "no address"},
		"multicast address": {func(c *Config) { c.Addresses[0] = netip.MustParsePrefix("224.0.0.1/24") }, "interface"},
		"gateway elsewhere": {func(c *Config) { c.Gateway = netip.MustParseAddr("198.51.100.1") }, "gateway"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := good()
			test.spoil(&cfg)
			if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one about %s", err, test.want)
			}
		})
	}
}

func TestLinkNamesFitTheKernel(t *testing.T) {
	for _, name := range []func(string) string{outerName, holdName, tapName} {
		if got := name(strings.Repeat("a", 128)); len(got) > 15 {
			t.Errorf("link name %s has %d characters, the kernel takes 15", got, len(got))
		}
	}
}

package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Controller is a controller's configuration.
type Controller struct {
	// Name is unique among the controllers of one store.
	Name string `mapstructure:"name"`
	// Listen is where agents, operators and other controllers reach it, host:port, over TLS.
	Listen string `mapstructure:"listen"`
	// Advertise is what other controllers reach it at; Listen where it is empty.
	Advertise string `mapstructure:"advertise"`
	// Socket is a unix socket for operators on the same machine, for its owner only.
	Socket string `mapstructure:"socket"`
	// DataDir holds the store, the certificates and the admin's credentials.
	DataDir string `mapstructure:"data-dir"`
	// PoolsDir holds the pools, one in each file; where there is none, there are no pools.
	PoolsDir string `mapstructure:"pools-dir"`
	// PodCIDR is what pods get their addresses from.
	PodCIDR string `mapstructure:"pod-cidr"`
	// PodPrefixLength is the prefix length that pods are given; 0: that of PodCIDR. Larger where pods and hosts share a network.
	PodPrefixLength int `mapstructure:"pod-prefix-length"`
	// Gateway is the pods' default route; none where it is empty.
	Gateway string     `mapstructure:"gateway"`
	Network PodNetwork `mapstructure:"network"`
	Etcd    Etcd       `mapstructure:"etcd"`
	Log     Log        `mapstructure:"log"`
	Timings Timings    `mapstructure:"timings"`
	Audit   Audit      `mapstructure:"audit"`
	// Join is how a controller that has no store yet gets a part of that of others.
	Join ControllerJoin `mapstructure:"join"`
	// FaultDir is where tests ask the controller to stop at a named point of a rollout; empty where there is no test.
	FaultDir string `mapstructure:"fault-dir"`
}

// ControllerJoin is how a controller joins others.
type ControllerJoin struct {
	// Controllers are the others' URLs, tried in this order; empty: this controller is the first.
	Controllers []string `mapstructure:"controller"`
	// TokenFile holds the token; it is not read once the controller has joined.
	TokenFile string `mapstructure:"token-file"`
}

func (c Controller) validPeers() error {
	var err error
	if c.Etcd.Peer != "" {
		peer, parse := netip.ParseAddrPort(c.Etcd.Peer)
		if parse != nil || peer.Addr().IsUnspecified() || peer.Port() == 0 {
			err = fmt.Errorf("`etcd.peer` %q is no ip:port that the other controllers reach, for example 10.77.0.2:7442", c.Etcd.Peer)
		}
		if len(c.Etcd.Endpoints) > 0 {
			err = errors.Join(err, errors.New("`etcd.peer` and `etcd.endpoints` exclude each other: the store is either the controllers' own or outside"))
		}
	} else if len(c.Join.Controllers) > 0 {
		err = errors.Join(err, errors.New("`join.controller` needs `etcd.peer`: with a store outside a controller needs no more than the same `etcd.endpoints`"))
	}
	for _, url := range c.Join.Controllers {
		if !strings.HasPrefix(url, "https://") {
			err = errors.Join(err, fmt.Errorf("`join.controller` %q must begin with https://", url))
		}
	}
	return err
}

// Audit is how much of what was done is kept on record. What is removed is recorded itself.
type Audit struct {
	// MaxAge is how long an event is kept.
	MaxAge time.Duration `mapstructure:"max-age"`
	// MaxEvents is how many are kept.
	MaxEvents int64 `mapstructure:"max-events"`
}

func (a Audit) validate() error {
	var err error
	if a.MaxAge < time.Hour {
		err = fmt.Errorf("`audit.max-age` %s is too short: at least 1h", a.MaxAge)
	}
	if a.MaxEvents < 1000 {
		err = errors.Join(err, fmt.Errorf("`audit.max-events` %d is too few: at least 1000", a.MaxEvents))
	}
	return err
}

// The kinds of network that can join the pods of different hosts.
const (
	// NetworkAuto takes the bridge where two hosts prove that it carries a pod's MAC, and VXLAN where they prove that it does not.
	NetworkAuto = "auto"
	// NetworkBridge is the hosts' own network: pods are on it as machines are.
	NetworkBridge = "bridge"
	// NetworkVXLAN is a network of its own for pods, carried by that of the hosts.
	NetworkVXLAN = "vxlan"
)

// PodNetwork is how pods of different hosts reach each other.
type PodNetwork struct {
	// Kind is auto, bridge or vxlan.
	Kind string `mapstructure:"kind"`
	// VNI tells VXLANs in one network apart: 1 to 16777215.
	VNI uint32 `mapstructure:"vni"`
	// Port is VXLAN's, over UDP.
	Port uint16 `mapstructure:"port"`
	// MTU is what the network between the hosts carries, in bytes.
	MTU uint32 `mapstructure:"mtu"`
}

// Etcd is an external store; without endpoints the controller runs one of its own.
type Etcd struct {
	// Peer is where the other controllers' stores reach this one's, ip:port; empty: the store is this controller's alone.
	Peer      string   `mapstructure:"peer"`
	Endpoints []string `mapstructure:"endpoints"`
	CA        string   `mapstructure:"ca"`
	Cert      string   `mapstructure:"cert"`
	Key       string   `mapstructure:"key"`
}

// Timings are how often and how long.
type Timings struct {
	// ReportInterval is how often hosts report.
	ReportInterval time.Duration `mapstructure:"report-interval"`
	// UnreachableAfter is how long a host may be silent before it counts as unreachable.
	UnreachableAfter time.Duration `mapstructure:"unreachable-after"`
	// ReconcileInterval is how often the leader looks whether every pod is as it should be.
	ReconcileInterval time.Duration `mapstructure:"reconcile-interval"`
	// CallTimeout is how long a host may take to answer a short question.
	CallTimeout time.Duration `mapstructure:"call-timeout"`
	// CreateTimeout is how long a host may take to start or stop a pod, images included.
	CreateTimeout time.Duration `mapstructure:"create-timeout"`
	// BootTimeout is how long a host may take to come back from a reboot before it is fenced, or counts as failed.
	BootTimeout time.Duration `mapstructure:"boot-timeout"`
}

// LoadController reads a controller's configuration and checks it.
func LoadController(file string, flags *pflag.FlagSet) (Controller, error) {
	c, err := load(file, flags, controllerDefaults())
	if err != nil {
		return Controller{}, err
	}
	if err := c.Validate(); err != nil {
		return Controller{}, fmt.Errorf("configuration %s: %w", orDefaults(file), err)
	}
	return c, nil
}

func controllerDefaults() Controller {
	return Controller{
		Name:    "controller",
		Listen:  ":7440",
		Socket:  "/run/drydock/controller.sock",
		DataDir: "/var/lib/drydock/controller", PoolsDir: "/etc/drydock/pools",
		PodCIDR: "10.77.128.0/17",
		Network: PodNetwork{Kind: NetworkAuto, VNI: 7077, Port: 4789, MTU: 1500},
		Join:    ControllerJoin{TokenFile: "/etc/drydock/controller-token"},
		Log:     logDefaults(),
		Audit:   Audit{MaxAge: 365 * 24 * time.Hour, MaxEvents: 100_000},
		Timings: Timings{
			ReportInterval:    2 * time.Second,
			UnreachableAfter:  8 * time.Second,
			ReconcileInterval: 2 * time.Second,
			CallTimeout:       5 * time.Second,
			CreateTimeout:     2 * time.Minute,
			BootTimeout:       15 * time.Minute,
		},
	}
}

// Validate says all that is wrong, each with a remedy.
func (c Controller) Validate() error {
	err := errors.Join(
		validName("name", c.Name),
		validListen("listen", c.Listen),
		validPath("data-dir", c.DataDir),
		validPath("pools-dir", c.PoolsDir),
		validPath("socket", c.Socket),
		c.validNetwork(),
		c.Network.validate(),
		c.Audit.validate(),
		c.validPeers(),
		c.Log.validate(),
		c.Timings.validate(),
	)
	if (c.Etcd.Cert == "") != (c.Etcd.Key == "") {
		err = errors.Join(err, errors.New("`etcd.cert` and `etcd.key` belong together: set both or neither"))
	}
	if c.Advertise != "" {
		err = errors.Join(err, validListen("advertise", c.Advertise))
	}
	return err
}

func (c Controller) validNetwork() error {
	pods, err := netip.ParsePrefix(c.PodCIDR)
	if err != nil || pods != pods.Masked() || !pods.Addr().Is4() {
		return fmt.Errorf("`pod-cidr` %q is no IPv4 network: write for example 10.77.128.0/17", c.PodCIDR)
	}
	if c.PodPrefixLength != 0 && (c.PodPrefixLength > pods.Bits() || c.PodPrefixLength < 8) {
		err = fmt.Errorf("`pod-prefix-length` %d does not hold all of `pod-cidr` %s: choose 8 to %d", c.PodPrefixLength, pods, pods.Bits())
	}
	if c.Gateway == "" {
		return err
	}
	gateway, parse := netip.ParseAddr(c.Gateway)
	if parse != nil || !c.PodNetwork().Contains(gateway) {
		err = errors.Join(err, fmt.Errorf("`gateway` %q is no address in the pods' network %s", c.Gateway, c.PodNetwork()))
	}
	return err
}

func (n PodNetwork) validate() error {
	var err error
	if n.Kind != NetworkAuto && n.Kind != NetworkBridge && n.Kind != NetworkVXLAN {
		err = fmt.Errorf("`network.kind` %q must be auto, bridge or vxlan", n.Kind)
	}
	if n.VNI == 0 || n.VNI >= 1<<24 {
		err = errors.Join(err, fmt.Errorf("`network.vni` %d must be 1 to %d", n.VNI, 1<<24-1))
	}
	if n.Port == 0 {
		err = errors.Join(err, errors.New("`network.port` 0 is no UDP port: 4789 is VXLAN's own"))
	}
	if n.MTU < 1280 || n.MTU > 65535 {
		err = errors.Join(err, fmt.Errorf("`network.mtu` %d must be 1280 to 65535: 1500 is Ethernet's", n.MTU))
	}
	return err
}

// PodNetwork is the network that pods see themselves in.
func (c Controller) PodNetwork() netip.Prefix {
	pods, err := netip.ParsePrefix(c.PodCIDR)
	if err != nil || c.PodPrefixLength == 0 {
		return pods
	}
	return netip.PrefixFrom(pods.Addr(), c.PodPrefixLength).Masked()
}

func (t Timings) validate() error {
	var err error
	for name, value := range map[string]time.Duration{
		"report-interval": t.ReportInterval, "reconcile-interval": t.ReconcileInterval,
		"call-timeout": t.CallTimeout, "create-timeout": t.CreateTimeout,
		"boot-timeout": t.BootTimeout,
	} {
		if value < 10*time.Millisecond {
			err = errors.Join(err, fmt.Errorf("`timings.%s` %s is too short: at least 10ms", name, value))
		}
	}
	if t.UnreachableAfter < 2*t.ReportInterval {
		err = errors.Join(err, fmt.Errorf("`timings.unreachable-after` %s must be at least twice `timings.report-interval` %s", t.UnreachableAfter, t.ReportInterval))
	}
	return err
}

func validPath(key, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("`%s` %q is no absolute path", key, path)
	}
	return nil
}

package config

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Agent is an agent's configuration.
type Agent struct {
	// Name is the host's, as its join token says.
	Name string `mapstructure:"name"`
	// Listen is where controllers and other agents reach it, host:port, over TLS. The host part is what it is known by, so it
	// must be set.
	Listen string `mapstructure:"listen"`
	// Controllers are their URLs, tried in this order.
	Controllers []string `mapstructure:"controller"`
	// Labels are the host's; pools choose hosts by them.
	Labels map[string]string `mapstructure:"labels"`
	// DataDir survives a boot, RunDir does not.
	DataDir    string     `mapstructure:"data-dir"`
	RunDir     string     `mapstructure:"run-dir"`
	Containerd Containerd `mapstructure:"containerd"`
	// CgroupParent is the cgroup that pods' cgroups are made in.
	CgroupParent string    `mapstructure:"cgroup-parent"`
	Network      Network   `mapstructure:"network"`
	Join         Join      `mapstructure:"join"`
	Migration    Migration `mapstructure:"migration"`
	// Packages is how the host's package sources are looked after.
	Packages Packages `mapstructure:"packages"`
	// Reboot is how the host is rebooted.
	Reboot Reboot `mapstructure:"reboot"`
	Log    Log    `mapstructure:"log"`
	// FaultDir is where tests ask the agent to stop at a named point of a migration; empty on every host that is not a test's.
	FaultDir string `mapstructure:"fault-dir"`
}

// Containerd is where the host's containerd is.
type Containerd struct {
	Socket string `mapstructure:"socket"`
}

// Network is how pods reach the outside.
type Network struct {
	// Bridge is what pods' interfaces are plugged into.
	Bridge string `mapstructure:"bridge"`
}

// Join is how a host that has no certificate gets one.
type Join struct {
	// TokenFile holds the token; it is not read once the host has joined.
	TokenFile string `mapstructure:"token-file"`
}

// Packages is how the host's package sources are looked after.
type Packages struct {
	// RefreshInterval is how often they are asked for what is new; 0s: only when somebody asks for it.
	RefreshInterval time.Duration `mapstructure:"refresh-interval"`
	// MaxAge is how long ago that may have been for anything to be installed from them.
	MaxAge time.Duration `mapstructure:"max-age"`
}

func (p Packages) validate() error {
	var err error
	if p.RefreshInterval != 0 && p.RefreshInterval < time.Minute {
		err = fmt.Errorf("`packages.refresh-interval` %s asks the archives too often: at least 1m, or 0s for never", p.RefreshInterval)
	}
	if p.MaxAge < time.Hour || p.MaxAge < 2*p.RefreshInterval {
		err = errors.Join(err, fmt.Errorf("`packages.max-age` %s is too short: at least 1h, and twice `packages.refresh-interval` %s", p.MaxAge, p.RefreshInterval))
	}
	return err
}

// Reboot is how the host is rebooted.
type Reboot struct {
	// Command reboots it, and is run by itself, without a shell; empty: logind does it.
	Command []string `mapstructure:"command"`
}

func (r Reboot) validate() error {
	if len(r.Command) == 0 {
		return nil
	}
	return validPath("reboot.command", r.Command[0])
}

// Migration is how the host takes part in migrations.
type Migration struct {
	// Silence is how long the destination may take no byte of a pod that is being sent before the migration is given up.
	Silence time.Duration `mapstructure:"silence"`
}

// leastSilence leaves room for a processor that is busy.
const leastSilence = time.Second

// LoadAgent reads an agent's configuration and checks it.
func LoadAgent(file string, flags *pflag.FlagSet) (Agent, error) {
	a, err := load(file, flags, agentDefaults())
	if err != nil {
		return Agent{}, err
	}
	if err := a.Validate(); err != nil {
		return Agent{}, fmt.Errorf("configuration %s: %w", orDefaults(file), err)
	}
	return a, nil
}

func agentDefaults() Agent {
	return Agent{
		DataDir:      "/var/lib/drydock/agent",
		RunDir:       "/run/drydock/agent",
		Containerd:   Containerd{Socket: "/run/containerd/containerd.sock"},
		CgroupParent: "/drydock",
		Network:      Network{Bridge: "drydock0"},
		Join:         Join{TokenFile: "/etc/drydock/join-token"},
		Packages:     Packages{RefreshInterval: 6 * time.Hour, MaxAge: 7 * 24 * time.Hour},
		Migration:    Migration{Silence: 15 * time.Second},
		Log:          logDefaults(),
	}
}

func validLabels(labels map[string]string) error {
	var err error
	for key, value := range labels {
		if key == "" || strings.ContainsAny(key+value, " \t\n,=") {
			err = errors.Join(err, fmt.Errorf("`labels` has %q: %q: write them without spaces, commas and equals signs, for example rack: r1", key, value))
		}
	}
	return err
}

// Validate says all that is wrong, each with a remedy.
func (a Agent) Validate() error {
	err := errors.Join(
		validName("name", a.Name),
		validListen("listen", a.Listen),
		validPath("data-dir", a.DataDir),
		validPath("run-dir", a.RunDir),
		validPath("containerd.socket", a.Containerd.Socket),
		validPath("cgroup-parent", a.CgroupParent),
		a.Packages.validate(),
		a.Reboot.validate(),
		validLabels(a.Labels),
		a.Log.validate(),
	)
	if host, _, split := net.SplitHostPort(a.Listen); split == nil && (host == "" || net.ParseIP(host).IsUnspecified()) {
		err = errors.Join(err, fmt.Errorf("`listen` %q names no host: write the address that other hosts reach this one at", a.Listen))
	}
	if a.Network.Bridge == "" || len(a.Network.Bridge) > 15 || strings.ContainsAny(a.Network.Bridge, "/ ") {
		err = errors.Join(err, fmt.Errorf("`network.bridge` %q is no interface's name: up to 15 characters", a.Network.Bridge))
	}
	if a.Migration.Silence < leastSilence {
		err = errors.Join(err, fmt.Errorf("`migration.silence` is %s: set at least %s", a.Migration.Silence, leastSilence))
	}
	if len(a.Controllers) == 0 {
		err = errors.Join(err, errors.New("`controller` is empty: list the controllers' URLs, for example [https://10.77.0.1:7440]"))
	}
	for _, controller := range a.Controllers {
		if !strings.HasPrefix(controller, "https://") {
			err = errors.Join(err, fmt.Errorf("`controller` %q must begin with https://", controller))
		}
	}
	return err
}

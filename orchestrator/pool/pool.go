// Package pool reads pools: which hosts are patched together, when, with what, and what must hold meanwhile.
//
// A pool is one YAML file, described key by key in docs/pools.md. It is taken whole or not at all: every fault in the file is
// reported at once, each with its place and a remedy, and a file that changes and has a fault leaves the last good one in force.
package pool

import "time"

// Pool is one policy. It is never changed once it is loaded.
//
// Its fields' tags are those of strictyaml.
type Pool struct {
	Name     string   `yaml:"name"`
	Hosts    Hosts    `yaml:"hosts"`
	Windows  []Window `yaml:"windows"`
	Schedule string   `yaml:"schedule" default:"manual"`
	// MinPeriod is how long after the start of a rollout the next one may start.
	MinPeriod   time.Duration `yaml:"min-period" default:"0s"`
	Patch       Patch         `yaml:"patch"`
	Reboot      string        `yaml:"reboot" default:"when-required"`
	AtOnce      AtOnce        `yaml:"at-once"`
	Pods        Pods          `yaml:"pods"`
	Soak        Soak          `yaml:"soak"`
	ErrorBudget ErrorBudget   `yaml:"error-budget"`
	Gates       []Gate        `yaml:"gates"`
	Hooks       Hooks         `yaml:"hooks"`
	Fence       *Fence        `yaml:"fence"`
	Notify      []Webhook     `yaml:"notify"`
	// Mixed: its hosts' kernels may stay of different ages, and every pod that is started on one is portable.
	Mixed bool `yaml:"mixed" default:"false"`
}

// Hosts are named, or carry all of the labels, or both.
type Hosts struct {
	Names  []string          `yaml:"names"`
	Labels map[string]string `yaml:"labels"`
}

// Window is a time in which hosts may be started with; see package window.
type Window struct {
	Days    []string      `yaml:"days" default:"[mon-sun]"`
	From    string        `yaml:"from"`
	To      string        `yaml:"to"`
	Zone    string        `yaml:"zone" default:"UTC"`
	MinLeft time.Duration `yaml:"min-left" default:"30m"`
}

// The values of Pool.Schedule.
const (
	// ScheduleManual starts a rollout only when an operator asks.
	ScheduleManual = "manual"
	// ScheduleWindow starts one by itself when a window opens and a host lacks something.
	ScheduleWindow = "window"
)

// The values of Pool.Reboot.
const (
	RebootNever        = "never"
	RebootWhenRequired = "when-required"
	RebootAlways       = "always"
)

// The values of Patch.What.
const (
	PatchSecurity = "security"
	PatchAll      = "all"
	PatchPackages = "packages"
)

// Patch is what a host is given.
type Patch struct {
	What     string   `yaml:"what" default:"security"`
	Packages []string `yaml:"packages"`
	// Hold names packages that are left as they are.
	Hold []string `yaml:"hold"`
	// Conffiles is keep or replace: what becomes of configuration files that were changed on the host.
	Conffiles string `yaml:"conffiles" default:"keep"`
	// WithoutDrain patches hosts that need neither a reboot nor a restart of a pod under their pods.
	WithoutDrain bool `yaml:"without-drain" default:"false"`
}

// AtOnce limits what is being patched at one time.
type AtOnce struct {
	Hosts int `yaml:"hosts" default:"1"`
	// FailureDomain is the label of hosts whose value names what fails together, such as a rack.
	FailureDomain string `yaml:"failure-domain"`
	// Domains is how many failure domains may have a host being patched.
	Domains int `yaml:"domains" default:"1"`
	// Canaries is how many hosts of each kind make the first wave.
	Canaries int `yaml:"canaries" default:"1"`
}

// The values of Pods.CannotMove and Pods.Return.
const (
	CannotMoveBlock = "block"
	CannotMoveStop  = "stop"

	ReturnAffinity = "affinity"
	ReturnAlways   = "always"
	ReturnNever    = "never"
)

// Pods is what may be done to the pods on the hosts.
type Pods struct {
	// DowntimeBudget is how long a pod may be silent for a move.
	DowntimeBudget time.Duration `yaml:"downtime-budget" default:"1s"`
	// Modes are those of a migration that may be used.
	Modes []string `yaml:"modes" default:"[precopy, stop]"`
	// CannotMove is what follows for a pod that cannot be moved: block the rollout, or stop it and start it again on a patched host.
	CannotMove string `yaml:"cannot-move" default:"block"`
	// Grace is how long a pod that is stopped may take to end.
	Grace  time.Duration `yaml:"grace" default:"30s"`
	Return string        `yaml:"return" default:"affinity"`
	Apart  []Apart       `yaml:"apart"`
}

// The values of Apart.Scope.
const (
	ScopeHost          = "host"
	ScopeFailureDomain = "failure-domain"
)

// Apart is a group of pods no two of which may share a host, or a failure domain.
type Apart struct {
	Name   string            `yaml:"name"`
	Pods   []string          `yaml:"pods"`
	Labels map[string]string `yaml:"labels"`
	Scope  string            `yaml:"scope" default:"host"`
}

// Soak is how long patched hosts are watched before the next ones.
type Soak struct {
	Host     time.Duration `yaml:"host" default:"1m"`
	Canaries time.Duration `yaml:"canaries" default:"10m"`
}

// ErrorBudget is how much may fail before the rollout stops.
type ErrorBudget struct {
	Hosts int `yaml:"hosts" default:"0"`
	Moves int `yaml:"moves" default:"3"`
}

// When gates are asked.
const (
	AtStart = "start"
	AtHost  = "host"
	AtEnd   = "end"
)

// Gate must be green for the rollout to go on; exactly one of CEL, HTTP, Prometheus and Manual is set. See package gate.
type Gate struct {
	Name       string          `yaml:"name"`
	At         []string        `yaml:"at" default:"[host]"`
	CEL        string          `yaml:"cel"`
	HTTP       *HTTPCheck      `yaml:"http"`
	Prometheus *PrometheusGate `yaml:"prometheus"`
	Manual     string          `yaml:"manual"`
	Timeout    time.Duration   `yaml:"timeout" default:"10s"`
	// Patience is how long a gate may stay red before that counts as a failure.
	Patience time.Duration `yaml:"patience" default:"5m"`
}

// HTTPCheck is a gate that asks a URL.
type HTTPCheck struct {
	URL       string `yaml:"url"`
	Status    int    `yaml:"status" default:"0"`
	Contains  string `yaml:"contains"`
	TokenFile string `yaml:"token-file"`
}

// PrometheusGate is a gate that asks Prometheus.
type PrometheusGate struct {
	URL       string   `yaml:"url"`
	Query     string   `yaml:"query"`
	Below     *float64 `yaml:"below"`
	Above     *float64 `yaml:"above"`
	TokenFile string   `yaml:"token-file"`
}

// Hooks are commands at points of a rollout.
type Hooks struct {
	Start      []Hook `yaml:"start"`
	BeforeHost []Hook `yaml:"before-host"`
	AfterHost  []Hook `yaml:"after-host"`
	End        []Hook `yaml:"end"`
}

// Where a hook runs.
const (
	RunHost       = "host"
	RunController = "controller"
)

// Hook is one command; where it fails, so does the point of the rollout that it belongs to.
type Hook struct {
	Command []string `yaml:"command"`
	// Run is host, the one being patched, or controller. At the start and the end there is only the controller.
	Run     string        `yaml:"run" default:"controller"`
	Timeout time.Duration `yaml:"timeout" default:"1m"`
}

// Fence switches off a host that does not answer. Exactly one of Command and IPMI is set; {host} stands for the host's name.
type Fence struct {
	Command []string      `yaml:"command"`
	IPMI    *IPMI         `yaml:"ipmi"`
	Timeout time.Duration `yaml:"timeout" default:"1m"`
}

// IPMI is how a host's management controller is reached.
type IPMI struct {
	Address      string `yaml:"address"`
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password-file"`
	Interface    string `yaml:"interface" default:"lanplus"`
}

// Webhook is told of events by a POST.
type Webhook struct {
	URL       string        `yaml:"url"`
	Events    []string      `yaml:"events" default:"[started, waiting, stopped, finished]"`
	TokenFile string        `yaml:"token-file"`
	Timeout   time.Duration `yaml:"timeout" default:"10s"`
}

// Package pool reads pools: which hosts are patched together, when, with what, and what must hold meanwhile.
//
// A pool is one YAML file, described key by key in docs/pools.md. It is taken whole or not at all: every fault in the file is
// reported at once, each with its place and a remedy, and a file that changes and has a fault leaves the last good one in force.
package pool

import "time"

// Pool is one policy. It is never changed once it is loaded.
//
// A field's tag `key` is its key in YAML; `default` is what it is where the key is missing, written as it would be in YAML.
type Pool struct {
	Name     string   `key:"name"`
	Hosts    Hosts    `key:"hosts"`
	Windows  []Window `key:"windows"`
	Schedule string   `key:"schedule" default:"manual"`
	// MinPeriod is how long after the start of a rollout the next one may start.
	MinPeriod   time.Duration `key:"min-period" default:"0s"`
	Patch       Patch         `key:"patch"`
	Reboot      string        `key:"reboot" default:"when-required"`
	AtOnce      AtOnce        `key:"at-once"`
	Pods        Pods          `key:"pods"`
	Soak        Soak          `key:"soak"`
	ErrorBudget ErrorBudget   `key:"error-budget"`
	Gates       []Gate        `key:"gates"`
	Hooks       Hooks         `key:"hooks"`
	Fence       *Fence        `key:"fence"`
	Notify      []Webhook     `key:"notify"`
	// Mixed: its hosts' kernels may stay of different ages, and every pod that is started on one is portable.
	Mixed bool `key:"mixed" default:"false"`
}

// Hosts are named, or carry all of the labels, or both.
type Hosts struct {
	Names  []string          `key:"names"`
	Labels map[string]string `key:"labels"`
}

// Window is a time in which hosts may be started with; see package window.
type Window struct {
	Days    []string      `key:"days" default:"[mon-sun]"`
	From    string        `key:"from"`
	To      string        `key:"to"`
	Zone    string        `key:"zone" default:"UTC"`
	MinLeft time.Duration `key:"min-left" default:"30m"`
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
	What     string   `key:"what" default:"security"`
	Packages []string `key:"packages"`
	// Hold names packages that are left as they are.
	Hold []string `key:"hold"`
	// Conffiles is keep or replace: what becomes of configuration files that were changed on the host.
	Conffiles string `key:"conffiles" default:"keep"`
	// WithoutDrain patches hosts that need neither a reboot nor a restart of a pod under their pods.
	WithoutDrain bool `key:"without-drain" default:"false"`
}

// AtOnce limits what is being patched at one time.
type AtOnce struct {
	Hosts int `key:"hosts" default:"1"`
	// FailureDomain is the label of hosts whose value names what fails together, such as a rack.
	FailureDomain string `key:"failure-domain"`
	// Domains is how many failure domains may have a host being patched.
	Domains int `key:"domains" default:"1"`
	// Canaries is how many hosts of each kind make the first wave.
	Canaries int `key:"canaries" default:"1"`
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
	DowntimeBudget time.Duration `key:"downtime-budget" default:"1s"`
	// Modes are those of a migration that may be used.
	Modes []string `key:"modes" default:"[precopy, stop]"`
	// CannotMove is what follows for a pod that cannot be moved: block the rollout, or stop it and start it again on a patched host.
	CannotMove string `key:"cannot-move" default:"block"`
	// Grace is how long a pod that is stopped may take to end.
	Grace  time.Duration `key:"grace" default:"30s"`
	Return string        `key:"return" default:"affinity"`
	Apart  []Apart       `key:"apart"`
}

// The values of Apart.Scope.
const (
	ScopeHost          = "host"
	ScopeFailureDomain = "failure-domain"
)

// Apart is a group of pods no two of which may share a host, or a failure domain.
type Apart struct {
	Name   string            `key:"name"`
	Pods   []string          `key:"pods"`
	Labels map[string]string `key:"labels"`
	Scope  string            `key:"scope" default:"host"`
}

// Soak is how long patched hosts are watched before the next ones.
type Soak struct {
	Host     time.Duration `key:"host" default:"1m"`
	Canaries time.Duration `key:"canaries" default:"10m"`
}

// ErrorBudget is how much may fail before the rollout stops.
type ErrorBudget struct {
	Hosts int `key:"hosts" default:"0"`
	Moves int `key:"moves" default:"3"`
}

// When gates are asked.
const (
	AtStart = "start"
	AtHost  = "host"
	AtEnd   = "end"
)

// Gate must be green for the rollout to go on; exactly one of CEL, HTTP, Prometheus and Manual is set. See package gate.
type Gate struct {
	Name       string          `key:"name"`
	At         []string        `key:"at" default:"[host]"`
	CEL        string          `key:"cel"`
	HTTP       *HTTPCheck      `key:"http"`
	Prometheus *PrometheusGate `key:"prometheus"`
	Manual     string          `key:"manual"`
	Timeout    time.Duration   `key:"timeout" default:"10s"`
	// Patience is how long a gate may stay red before that counts as a failure.
	Patience time.Duration `key:"patience" default:"5m"`
}

// HTTPCheck is a gate that asks a URL.
type HTTPCheck struct {
	URL       string `key:"url"`
	Status    int    `key:"status" default:"0"`
	Contains  string `key:"contains"`
	TokenFile string `key:"token-file"`
}

// PrometheusGate is a gate that asks Prometheus.
type PrometheusGate struct {
	URL       string   `key:"url"`
	Query     string   `key:"query"`
	Below     *float64 `key:"below"`
	Above     *float64 `key:"above"`
	TokenFile string   `key:"token-file"`
}

// Hooks are commands at points of a rollout.
type Hooks struct {
	Start      []Hook `key:"start"`
	BeforeHost []Hook `key:"before-host"`
	AfterHost  []Hook `key:"after-host"`
	End        []Hook `key:"end"`
}

// Where a hook runs.
const (
	RunHost       = "host"
	RunController = "controller"
)

// Hook is one command; where it fails, so does the point of the rollout that it belongs to.
type Hook struct {
	Command []string `key:"command"`
	// Run is host, the one being patched, or controller. At the start and the end there is only the controller.
	Run     string        `key:"run" default:"controller"`
	Timeout time.Duration `key:"timeout" default:"1m"`
}

// Fence switches off a host that does not answer. Exactly one of Command and IPMI is set; {host} stands for the host's name.
type Fence struct {
	Command []string      `key:"command"`
	IPMI    *IPMI         `key:"ipmi"`
	Timeout time.Duration `key:"timeout" default:"1m"`
}

// IPMI is how a host's management controller is reached.
type IPMI struct {
	Address      string `key:"address"`
	User         string `key:"user"`
	PasswordFile string `key:"password-file"`
	Interface    string `key:"interface" default:"lanplus"`
}

// Webhook is told of events by a POST.
type Webhook struct {
	URL       string        `key:"url"`
	Events    []string      `key:"events" default:"[started, waiting, stopped, finished]"`
	TokenFile string        `key:"token-file"`
	Timeout   time.Duration `key:"timeout" default:"10s"`
}

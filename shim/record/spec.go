package record

import (
	"time"

	"go.yaml.in/yaml/v3"

	"drydock/shim/rules"
)

// Spec is a record as it is written.
type Spec struct {
	Service string `yaml:"service" need:"write service: NAME"`
	// Protocol is http (also where it is left out; gRPC too), or stream: connections whose bytes modules translate.
	Protocol string `yaml:"protocol"`
	Client   Client `yaml:"client" need:"write client: {default: VERSION}, the version of clients that do not say theirs"`
	// Versions are the oldest first.
	Versions []string `yaml:"versions" need:"write versions: [v1, v2], the oldest first"`
	// Descriptors are files beside the record, one for each version that has gRPC services.
	Descriptors map[string]string `yaml:"descriptors"`
	// Route says which calls belong to one server of a gateway, by what of the call.
	Route []rules.Route `yaml:"route"`
	// Gateway is the pod that clients of the service connect to, where there is one.
	Gateway *Gateway `yaml:"gateway"`
	Pairs   []Pair   `yaml:"pairs" need:"write pairs: with one entry for each two neighbours, or pairs: [] for a single version"`
}

// Gateway is a pod that leads calls to the service's pods.
type Gateway struct {
	Pod string `yaml:"pod" need:"write pod: NAME, that of the gateway's pod"`
	// Image and Command are of a program that does nothing: the pod's shim does the work.
	Image   string   `yaml:"image" need:"write image: IMAGE, of a program that does not listen at the ports"`
	Command []string `yaml:"command"`
	// Address is the pod's, where it is to have a certain one.
	Address string `yaml:"address"`
	Ports   []int  `yaml:"ports" need:"write ports: [8080], where clients connect"`
	// Health is a path that servers are asked for; without one a connection is enough.
	Health string `yaml:"health"`
}

// Client says how a client's version is known: by the port that it connects to, else by a header, else by the default.
type Client struct {
	Header  string         `yaml:"header"`
	Ports   map[int]string `yaml:"ports"`
	Default string         `yaml:"default" need:"write default: VERSION, that of clients that do not say theirs"`
}

// Pair is what lies between two neighbour versions.
type Pair struct {
	Between []string `yaml:"between" need:"write between: [OLDER, NEWER]"`
	// Up takes calls of clients of the older version to servers of the newer one, and Down the other way.
	Up         Part[Direction]         `yaml:"up" need:"write up: with rules, or up: none where every old call means the same in the newer version"`
	Down       Part[Direction]         `yaml:"down" need:"write down: with rules, or down: none where every new call means the same in the older version"`
	Transform  Part[Transform]         `yaml:"transform" need:"write transform: {command: [PROGRAM]}, or transform: none where no stored state changes"`
	Schedule   Part[Schedule]          `yaml:"schedule" need:"write schedule: {kind: rolling}, or schedule: none for upgrades by hand only"`
	Disallowed Part[[]rules.Forbidden] `yaml:"disallowed" need:"write disallowed: with the calls that mean nothing in the other version, or disallowed: none"`
	Examples   []Example               `yaml:"examples"`
	// Transcripts are the examples of a stream.
	Transcripts []Transcript `yaml:"transcripts"`
}

// Direction is how calls are translated one way: by rules, or by a module.
type Direction struct {
	Rules []rules.Rule `yaml:"rules"`
	// Otherwise is what becomes of a call that no rule fits: pass or refuse.
	Otherwise string  `yaml:"otherwise"`
	Module    *Module `yaml:"module"`
}

// Module is a translator in WebAssembly.
type Module struct {
	// File is beside the record.
	File string `yaml:"file" need:"write file: FILE, a WebAssembly module beside the record"`
	// Memory is as 32MiB. What is left out has module.DefaultLimits.
	Memory string        `yaml:"memory"`
	Time   time.Duration `yaml:"time"`
	// Fault is what a client is sent before its connection is cut, where the module breaks.
	Fault string `yaml:"fault"`
}

// Transcript is a piece of a connection as both versions see it.
type Transcript struct {
	Name string `yaml:"name" need:"write name: what the transcript shows"`
	// Direction is up, down, or both (also where it is left out).
	Direction string  `yaml:"direction"`
	Old       *Spoken `yaml:"old"`
	New       *Spoken `yaml:"new"`
	// Refused is disallowed or untranslatable where the call must be refused; then only the caller's side is given.
	Refused string `yaml:"refused"`
}

// Spoken is what a client sends, and what it gets.
type Spoken struct {
	Sends string `yaml:"sends" need:"write sends: \"...\", in double quotes"`
	Gets  string `yaml:"gets" need:"write gets: \"...\", in double quotes"`
}

// Transform is a program that turns the older version's state into the newer one's.
type Transform struct {
	Command []string `yaml:"command" need:"write command: [PROGRAM, ARGUMENT]"`
	// Back turns the newer version's state into the older one's. Without it, pods that were upgraded stay so.
	Back    []string      `yaml:"back"`
	Timeout time.Duration `yaml:"timeout" need:"write timeout: 5m, after which it has failed"`
}

// Schedule says in which order pods are upgraded. AtOnce limits how many are upgraded at the same moment.
type Schedule struct {
	Kind   string        `yaml:"kind" need:"write kind: rolling, flag, gradual, servers-first, clients-first or one-per-group"`
	AtOnce int           `yaml:"at-once"`
	Soak   time.Duration `yaml:"soak"`
	// Flag names the flag that must be set, Label the pod's label that names its group.
	Flag  string `yaml:"flag"`
	Label string `yaml:"label"`
	// Percent of the pods are upgraded in each step of a gradual upgrade.
	Percent int `yaml:"percent"`
}

// Example is a call as both versions see it.
type Example struct {
	Name string `yaml:"name" need:"write name: what the example shows"`
	// Direction is up, down, or both (also where it is left out).
	Direction string `yaml:"direction"`
	Old       *Call  `yaml:"old"`
	New       *Call  `yaml:"new"`
	// Lossy says what is lost on the way there and back; empty where nothing may be.
	Lossy string `yaml:"lossy"`
	// Kept is what the shim has kept before the call: by field and by whose it is.
	Kept map[string]map[string]yaml.Node `yaml:"kept"`
	// Refused is disallowed or untranslatable where the call must be refused; then only the caller's side is given.
	Refused string `yaml:"refused"`
}

// Call is a request and its reply.
type Call struct {
	Request Request `yaml:"request" need:"write request: {method: GET, path: /things/1}"`
	Reply   *Reply  `yaml:"reply"`
}

// Request is what a client sends. Path may have a query.
type Request struct {
	Method string            `yaml:"method" need:"write method: GET"`
	Path   string            `yaml:"path" need:"write path: /things/1"`
	Header map[string]string `yaml:"header"`
	Body   yaml.Node         `yaml:"body"`
}

// Reply is what a server answers.
type Reply struct {
	Status int               `yaml:"status" need:"write status: 200"`
	Header map[string]string `yaml:"header"`
	Body   yaml.Node         `yaml:"body"`
}

// Part is none, or a T.
type Part[T any] struct {
	None  bool
	Value T
}

// Alternatives lets strictyaml take the word none.
func (p *Part[T]) Alternatives() (words []string, other any) { return []string{"none"}, &p.Value }

// UnmarshalYAML reads none, or a T.
func (p *Part[T]) UnmarshalYAML(node *yaml.Node) error {
	if p.None = node.Kind == yaml.ScalarNode; p.None {
		return nil
	}
	return node.Decode(&p.Value)
}

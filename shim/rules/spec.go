package rules

import "go.yaml.in/yaml/v3"

// Spec is one direction between two neighbour versions.
type Spec struct {
	Rules []Rule `yaml:"rules"`
	// Otherwise is what becomes of a call that no rule fits: pass or refuse.
	Otherwise string `yaml:"otherwise" need:"write otherwise: pass, or otherwise: refuse, for calls that no rule fits"`
}

// Rule translates the calls that it fits.
type Rule struct {
	Name  string `yaml:"name" need:"write name: what the rule does, in a few words"`
	Match Match  `yaml:"match" need:"write match: {method: [GET], path: '/things/{id}'}"`
	// When is a condition in CEL over method, path, header, query, vars and body.
	When string `yaml:"when"`
	// To is the call's method and path in the other version, where they differ.
	To      Target `yaml:"to"`
	Request []Op   `yaml:"request"`
	// Reply is for answers with a status below 400, Failure for the others.
	Reply   []Op `yaml:"reply"`
	Failure []Op `yaml:"failure"`
}

// Match is what a call must be like. What is left out fits anything.
type Match struct {
	Method []string `yaml:"method"`
	// Path is like /orders/{id} or /files/{rest...}; gRPC calls have /package.Service/Method.
	Path   string               `yaml:"path" need:"write path: '/things/{id}', or path: '/{rest...}' for all"`
	Header map[string]string    `yaml:"header"`
	Field  map[string]yaml.Node `yaml:"field"`
}

// Target is where a call goes.
type Target struct {
	Method string `yaml:"method"`
	Path   string `yaml:"path"`
}

// Forbidden is a call that the record disallows.
type Forbidden struct {
	// Version is the one that the client speaks.
	Version string `yaml:"version" need:"write version: the version whose call it is"`
	Match   Match  `yaml:"match" need:"write match: {path: '/things/{id}'}"`
	When    string `yaml:"when"`
	Reason  string `yaml:"reason" need:"write reason: what the caller is told"`
}

// Op is one change. Exactly one of its keys but in is set.
//
// A field is a path in the body (customer.name; . is the whole body), header:NAME, query:NAME or path:NAME.
type Op struct {
	// In names objects that the change is made in, one by one: order.items[].
	In      string      `yaml:"in"`
	Rename  *FromTo     `yaml:"rename"`
	Move    *FromTo     `yaml:"move"`
	Default *FieldValue `yaml:"default"`
	Drop    *Field      `yaml:"drop"`
	Convert *Convert    `yaml:"convert"`
	Map     *Map        `yaml:"map"`
	Split   *Split      `yaml:"split"`
	Join    *Join       `yaml:"join"`
	JQ      string      `yaml:"jq"`
	Status  map[int]int `yaml:"status"`
	Keep    *Keep       `yaml:"keep"`
}

// Keep has the shim hold a field that the other version cannot store. By is the field that tells whose it is.
type Keep struct {
	Field string `yaml:"field" need:"write field: FIELD"`
	By    string `yaml:"by" need:"write by: FIELD, what tells whose field it is, as path:id"`
}

// FromTo are two fields; for rename, To is only a name, and the field stays where it is.
type FromTo struct {
	From string `yaml:"from" need:"write from: FIELD"`
	To   string `yaml:"to" need:"write to: FIELD"`
}

// FieldValue gives an absent field a value.
type FieldValue struct {
	Field string    `yaml:"field" need:"write field: FIELD"`
	Value yaml.Node `yaml:"value" need:"write value: the value where the field is absent"`
}

// Field is only its name.
type Field struct {
	Field string `yaml:"field" need:"write field: FIELD"`
}

// Convert makes a field another kind of value: string, number, integer or boolean. A number can be multiplied first, exactly.
type Convert struct {
	Field string `yaml:"field" need:"write field: FIELD"`
	To    string `yaml:"to" need:"write to: string, number, integer or boolean"`
	Times string `yaml:"times"`
}

// Map replaces a field's value by the one listed for it.
type Map struct {
	Field  string               `yaml:"field" need:"write field: FIELD"`
	Values map[string]yaml.Node `yaml:"values" need:"write values: {OLD: NEW}"`
	// Otherwise is refuse (also where it is left out) or keep.
	Otherwise string `yaml:"otherwise"`
}

// Split makes as many texts as Into has fields out of one.
type Split struct {
	Field string   `yaml:"field" need:"write field: FIELD"`
	By    string   `yaml:"by" need:"write by: what stands between the parts"`
	Into  []string `yaml:"into" need:"write into: [FIELD, FIELD]"`
}

// Join makes one text of several.
type Join struct {
	Fields []string `yaml:"fields" need:"write fields: [FIELD, FIELD]"`
	With   string   `yaml:"with" need:"write with: what stands between the parts"`
	Into   string   `yaml:"into" need:"write into: FIELD"`
}

// Problem is what is wrong with a Spec. Field is its path in it.
type Problem struct{ Field, Reason, Remedy string }

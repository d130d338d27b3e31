package strictyaml

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Alternatives is implemented by a type that is a word ("none") or something else: the words, and a pointer to the other.
type Alternatives interface {
	Alternatives() (words []string, other any)
}

var (
	nodeType         = reflect.TypeFor[yaml.Node]()
	alternativesType = reflect.TypeFor[Alternatives]()
)

// walk compares a node with the type that it will be decoded into.
func (d *Document) walk(path string, node *yaml.Node, want reflect.Type) {
	if path != "" {
		d.places[path] = place{node.Line, node.Column}
	}
	d.depth++
	defer func() { d.depth-- }()
	if d.depth > maxDepth {
		d.report(path, fmt.Sprintf("nested deeper than %d", maxDepth), "write it flatter")
		return
	}
	for want.Kind() == reflect.Pointer {
		want = want.Elem()
	}
	switch {
	case node.Kind == yaml.AliasNode || node.Anchor != "":
		d.report(path, "anchors and aliases are not supported", "write the value out")
	case want == nodeType:
		d.free(path, node)
	case reflect.PointerTo(want).Implements(alternativesType):
		d.alternatives(path, node, want)
	case want.Kind() == reflect.Struct:
		d.structure(path, node, want)
	case want.Kind() == reflect.Map:
		d.mapping(path, node, func(key string, value *yaml.Node) { d.walk(join(path, key), value, want.Elem()) })
	case want.Kind() == reflect.Slice:
		if node.Kind != yaml.SequenceNode {
			d.report(path, "is "+kindOf(node)+", and a list is needed", "write a list: [...], or a line with - for each")
			return
		}
		for i, item := range node.Content {
			d.walk(index(path, i), item, want.Elem())
		}
	default:
		d.scalar(path, node, want)
	}
}

func (d *Document) alternatives(path string, node *yaml.Node, want reflect.Type) {
	words, other := reflect.New(want).Interface().(Alternatives).Alternatives()
	inner := reflect.TypeOf(other).Elem()
	if node.Kind != yaml.ScalarNode {
		d.walk(path, node, inner)
		return
	}
	if inner.Kind() != reflect.Struct && inner.Kind() != reflect.Slice && inner.Kind() != reflect.Map || slices.Contains(words, node.Value) {
		return
	}
	d.report(path, fmt.Sprintf("%q is not known here", node.Value), "write "+strings.Join(words, ", ")+", or what the guide shows for it")
}

func (d *Document) structure(path string, node *yaml.Node, want reflect.Type) {
	fields := map[string]reflect.StructField{}
	var known []string
	for i := range want.NumField() {
		field := want.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		fields[name] = field
		known = append(known, name)
	}
	present := map[string]bool{}
	ok := d.mapping(path, node, func(key string, value *yaml.Node) {
		field, found := fields[key]
		if !found {
			d.report(join(path, key), "unknown key", "remove it, or use one of: "+strings.Join(known, ", "))
			return
		}
		present[key] = true
		d.walk(join(path, key), value, field.Type)
	})
	if !ok {
		return
	}
	for _, name := range known {
		if need := fields[name].Tag.Get("need"); need != "" && !present[name] {
			d.report(join(path, name), "missing", need)
		}
	}
}

// mapping calls back for each key. An unknown key's place is the key's, so that the report points at the word.
func (d *Document) mapping(path string, node *yaml.Node, each func(key string, value *yaml.Node)) bool {
	if node.Kind != yaml.MappingNode {
		d.report(path, "is "+kindOf(node)+", and keys with values are needed", "write KEY: VALUE below it")
		return false
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		at := join(path, key.Value)
		d.places[at] = place{key.Line, key.Column}
		if key.Kind != yaml.ScalarNode || key.Value == "<<" {
			d.report(at, "only plain keys are supported", "write the keys out")
			continue
		}
		if seen[key.Value] {
			d.report(at, "the key is there twice", "remove one of them")
			continue
		}
		seen[key.Value] = true
		each(key.Value, node.Content[i+1])
	}
	return true
}

func (d *Document) scalar(path string, node *yaml.Node, want reflect.Type) {
	if node.Kind != yaml.ScalarNode {
		d.report(path, "is "+kindOf(node)+", and one value is needed", "write one value")
		return
	}
	if want.Kind() == reflect.String && node.Tag == "!!null" {
		d.report(path, "has no value", "write a value, or remove the key")
		return
	}
	if err := node.Decode(reflect.New(want).Interface()); err != nil {
		d.report(path, fmt.Sprintf("%q is not %s", node.Value, nameOf(want)), "write "+nameOf(want))
	}
}

// free looks into what is kept as it is: an example's body.
func (d *Document) free(path string, node *yaml.Node) {
	switch node.Kind {
	case yaml.MappingNode:
		d.mapping(path, node, func(key string, value *yaml.Node) { d.walk(join(path, key), value, nodeType) })
	case yaml.SequenceNode:
		for i, item := range node.Content {
			d.walk(index(path, i), item, nodeType)
		}
	}
}

func kindOf(node *yaml.Node) string {
	switch {
	case node.Kind == yaml.MappingNode:
		return "a mapping"
	case node.Kind == yaml.SequenceNode:
		return "a list"
	case node.Tag == "!!null":
		return "empty"
	default:
		return "one value"
	}
}

func nameOf(t reflect.Type) string {
	switch {
	case t.String() == "time.Duration":
		return "a duration with its unit, as 30s"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.String:
		return "a text"
	default:
		return "a whole number"
	}
}

package strictyaml

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Alternatives is implemented by a pointer to a type that is a word ("none") or something else: the words, and a pointer to where
// the other is kept. Its UnmarshalYAML is given words only.
type Alternatives interface {
	Alternatives() (words []string, other any)
}

var (
	nodeType         = reflect.TypeFor[yaml.Node]()
	alternativesType = reflect.TypeFor[Alternatives]()
)

// decode reads a node into a value. Where something is wrong, it is reported, and the value stays what it was.
func (d *Document) decode(path string, node *yaml.Node, into reflect.Value) {
	d.places[path] = Place{node.Line, node.Column, node.Style}
	d.depth++
	defer func() { d.depth-- }()
	switch {
	case d.depth > maxDepth:
		d.report(path, fmt.Sprintf("nested deeper than %d", maxDepth), "write it flatter")
	case node.Kind == yaml.AliasNode || node.Anchor != "":
		d.report(path, "anchors and aliases are not supported", "write the value out")
	case into.Type() == nodeType:
		d.free(path, node)
		into.Set(reflect.ValueOf(*node))
	case reflect.PointerTo(into.Type()).Implements(alternativesType):
		d.alternatives(path, node, into)
	case into.Kind() == reflect.Pointer:
		value := reflect.New(into.Type().Elem())
		d.fill(value.Elem())
		d.decode(path, node, value.Elem())
		into.Set(value)
	case into.Kind() == reflect.Struct:
		d.structure(path, node, into)
	case into.Kind() == reflect.Map:
		d.table(path, node, into)
	case into.Kind() == reflect.Slice:
		d.list(path, node, into)
	default:
		d.scalar(path, node, into)
	}
}

func (d *Document) alternatives(path string, node *yaml.Node, into reflect.Value) {
	words, other := into.Addr().Interface().(Alternatives).Alternatives()
	value := reflect.ValueOf(other).Elem()
	compound := value.Kind() == reflect.Struct || value.Kind() == reflect.Slice || value.Kind() == reflect.Map
	switch {
	case node.Kind == yaml.ScalarNode && slices.Contains(words, node.Value):
		if err := node.Decode(into.Addr().Interface()); err != nil {
			d.report(path, err.Error(), "correct the value")
		}
	case node.Kind == yaml.ScalarNode && compound:
		d.report(path, fmt.Sprintf("%q is not known here", node.Value), "write "+strings.Join(words, ", ")+", or what the guide shows for it")
	default:
		d.decode(path, node, value)
	}
}

func (d *Document) structure(path string, node *yaml.Node, into reflect.Value) {
	fields := map[string]int{}
	var known []string
	for i := range into.NumField() {
		if name := nameOf(into.Type().Field(i)); name != "" {
			fields[name] = i
			known = append(known, name)
		}
	}
	if node.Kind != yaml.MappingNode {
		d.report(path, "has no keys", "write its keys below it: "+strings.Join(known, ", "))
		return
	}
	present := map[string]bool{}
	d.pairs(path, node, func(key, value *yaml.Node, inner string) {
		field, found := fields[key.Value]
		if !found {
			reason, remedy := d.format.Unknown(key.Value, known)
			d.at(key, inner, reason, remedy)
			return
		}
		present[key.Value] = true
		d.decode(inner, value, into.Field(field))
	})
	for _, name := range known {
		if need := into.Type().Field(fields[name]).Tag.Get("need"); need != "" && !present[name] {
			d.report(join(path, name), "missing", need)
		}
	}
}

// nameOf is the key of a field; empty where it has none.
func nameOf(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
	if name == "-" {
		return ""
	}
	return name
}

// pairs goes through the keys of a mapping, and refuses those that come twice.
func (d *Document) pairs(path string, node *yaml.Node, each func(key, value *yaml.Node, inner string)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		inner := join(path, key.Value)
		if key.Kind != yaml.ScalarNode || key.Value == "<<" {
			d.at(key, inner, "only plain keys are supported", "write the keys out")
			continue
		}
		if line, twice := seen[key.Value]; twice {
			d.at(key, inner, fmt.Sprintf("stands in line %d already", line), "keep one of the two")
			continue
		}
		seen[key.Value] = key.Line
		each(key, value, inner)
	}
}

// table reads keys that the writer chooses.
func (d *Document) table(path string, node *yaml.Node, into reflect.Value) {
	if node.Kind != yaml.MappingNode {
		reason, remedy := "has no keys", "write KEY: VALUE below it"
		if d.format.Table != "" {
			reason, remedy = "is no "+d.format.Table, "write for example "+d.format.Example
		}
		d.report(path, reason, remedy)
		return
	}
	all := reflect.MakeMap(into.Type())
	d.pairs(path, node, func(key, value *yaml.Node, inner string) {
		name := reflect.New(into.Type().Key()).Elem()
		if name.Kind() == reflect.String {
			name.SetString(key.Value)
		} else if err := key.Decode(name.Addr().Interface()); err != nil {
			d.at(key, inner, fmt.Sprintf("%q is not %s", key.Value, wanted(name.Type())), "write "+wanted(name.Type()))
			return
		}
		item := reflect.New(into.Type().Elem()).Elem()
		d.fill(item)
		d.decode(inner, value, item)
		all.SetMapIndex(name, item)
	})
	into.Set(all)
}

func (d *Document) list(path string, node *yaml.Node, into reflect.Value) {
	if node.Kind != yaml.SequenceNode {
		d.report(path, "is no list", "write it in brackets, or one entry in a line, each after a dash")
		return
	}
	items := reflect.MakeSlice(into.Type(), len(node.Content), len(node.Content))
	for i, item := range node.Content {
		d.fill(items.Index(i))
		d.decode(index(path, i), item, items.Index(i))
	}
	into.Set(items)
}

// free looks into what is kept as it is: an example's body.
func (d *Document) free(path string, node *yaml.Node) {
	kept := func() reflect.Value { return reflect.New(nodeType).Elem() }
	switch node.Kind {
	case yaml.MappingNode:
		d.pairs(path, node, func(_, value *yaml.Node, inner string) { d.decode(inner, value, kept()) })
	case yaml.SequenceNode:
		for i, item := range node.Content {
			d.decode(index(path, i), item, kept())
		}
	}
}

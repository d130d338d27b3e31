package pool

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"drydock/internal/spelling"

	"go.yaml.in/yaml/v3"
)

type place struct {
	line, column int
	style        yaml.Style
}

// decoder reads YAML into a struct by its tags, and remembers where each key stood, so that faults found later have a place.
type decoder struct {
	file   string
	lines  []string
	places map[string]place
	faults Faults
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	yamlLine     = regexp.MustCompile(`line (\d+): `)
)

// root parses the one document of a file.
func (d *decoder) root(data []byte) *yaml.Node {
	reader := yaml.NewDecoder(strings.NewReader(string(data)))
	var document, more yaml.Node
	switch err := reader.Decode(&document); {
	case errors.Is(err, io.EOF):
		d.fault("", "the file is empty", "describe a pool; see docs/pools.md")
		return nil
	case err != nil:
		d.syntax(err)
		return nil
	}
	switch err := reader.Decode(&more); {
	case err == nil:
		d.at(&more, "", "a second document begins here", "put each pool in a file of its own")
	case !errors.Is(err, io.EOF):
		d.syntax(err)
	}
	return document.Content[0]
}

func (d *decoder) syntax(err error) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	fault := Fault{File: d.file, Remedy: "correct the YAML there"}
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		fault.Line, _ = strconv.Atoi(m[1])
		fault.Column = 1
		message = strings.Replace(message, m[0], "", 1)
	}
	fault.Message = message
	d.faults = append(d.faults, fault)
}

func (d *decoder) at(node *yaml.Node, path, message, remedy string) {
	d.faults = append(d.faults, Fault{File: d.file, Line: node.Line, Column: node.Column, Key: path, Message: message, Remedy: remedy})
}

// fault is about a key that may be missing: its place is then that of the nearest key around it.
func (d *decoder) fault(path, message, remedy string) {
	p := d.placeOf(path)
	d.faults = append(d.faults, Fault{File: d.file, Line: p.line, Column: p.column, Key: path, Message: message, Remedy: remedy})
}

func (d *decoder) placeOf(path string) place {
	for path != "" {
		if p, ok := d.places[path]; ok {
			return p
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return d.places[""]
}

func (d *decoder) decode(node *yaml.Node, path string, into reflect.Value) {
	d.places[path] = place{node.Line, node.Column, node.Style}
	switch {
	case node.Kind == yaml.AliasNode || node.Anchor != "":
		d.at(node, path, "anchors and aliases are not supported", "write the value out")
	case into.Kind() == reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		d.setDefaults(into.Elem())
		d.decode(node, path, into.Elem())
	case into.Kind() == reflect.Struct:
		d.structure(node, path, into)
	case into.Kind() == reflect.Map:
		d.labels(node, path, into)
	case into.Kind() == reflect.Slice:
		d.list(node, path, into)
	case node.Kind != yaml.ScalarNode || node.Tag == "!!null":
		d.at(node, path, "has no value of its own", "write "+wanted(into.Type()))
	default:
		d.scalar(node, path, into)
	}
}

func (d *decoder) structure(node *yaml.Node, path string, into reflect.Value) {
	if node.Kind != yaml.MappingNode {
		d.at(node, path, "has no keys", "write its keys below it: "+strings.Join(keysOf(into.Type()), ", "))
		return
	}
	d.pairs(node, path, func(key, value *yaml.Node, inner string) {
		for i := range into.NumField() {
			if into.Type().Field(i).Tag.Get("key") == key.Value {
				d.decode(value, inner, into.Field(i))
				return
			}
		}
		known := keysOf(into.Type())
		d.at(key, inner, "is not known", fmt.Sprintf("did you mean `%s`? The keys here are %s", spelling.Nearest(key.Value, known), strings.Join(known, ", ")))
	})
}

// pairs goes through the keys of a mapping and refuses those that come twice.
func (d *decoder) pairs(node *yaml.Node, path string, each func(key, value *yaml.Node, inner string)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		inner := strings.TrimPrefix(path+"."+key.Value, ".")
		if line, twice := seen[key.Value]; twice {
			d.at(key, inner, fmt.Sprintf("stands in line %d already", line), "keep one of the two")
			continue
		}
		seen[key.Value] = key.Line
		each(key, value, inner)
	}
}

func (d *decoder) labels(node *yaml.Node, path string, into reflect.Value) {
	if node.Kind != yaml.MappingNode {
		d.at(node, path, "is no set of labels", "write for example {tier: web}")
		return
	}
	labels := map[string]string{}
	d.pairs(node, path, func(key, value *yaml.Node, inner string) {
		var text string
		d.decode(value, inner, reflect.ValueOf(&text).Elem())
		labels[key.Value] = text
	})
	into.Set(reflect.ValueOf(labels))
}

func (d *decoder) list(node *yaml.Node, path string, into reflect.Value) {
	if node.Kind != yaml.SequenceNode {
		d.at(node, path, "is no list", "write it in brackets, or one entry in a line, each after a dash")
		return
	}
	items := reflect.MakeSlice(into.Type(), len(node.Content), len(node.Content))
	for i, item := range node.Content {
		d.setDefaults(items.Index(i))
		d.decode(item, fmt.Sprintf("%s[%d]", path, i), items.Index(i))
	}
	into.Set(items)
}

func (d *decoder) scalar(node *yaml.Node, path string, into reflect.Value) {
	var err error
	switch {
	case into.Type() == durationType:
		var length time.Duration
		length, err = parseDuration(node.Value)
		into.SetInt(int64(length))
	case into.Kind() == reflect.String && node.Tag != "!!str":
		d.at(node, path, fmt.Sprintf("%s is no text", node.Value), fmt.Sprintf("put it in quotes: %q", node.Value))
		return
	case into.Kind() == reflect.Int && node.Tag != "!!int":
		err = errors.New("no whole number")
	default:
		err = node.Decode(into.Addr().Interface())
	}
	if err != nil {
		d.at(node, path, fmt.Sprintf("%q is not %s", node.Value, wanted(into.Type())), "write "+wanted(into.Type()))
	}
}

// setDefaults gives a struct what the tags of its fields say; other values have no defaults.
func (d *decoder) setDefaults(into reflect.Value) {
	if into.Kind() != reflect.Struct {
		return
	}
	scratch := decoder{places: map[string]place{}}
	for i := range into.NumField() {
		field := into.Type().Field(i)
		if field.Type.Kind() == reflect.Struct {
			d.setDefaults(into.Field(i))
		} else if text, ok := field.Tag.Lookup("default"); ok {
			var document yaml.Node
			if err := yaml.Unmarshal([]byte(text), &document); err == nil {
				scratch.decode(document.Content[0], "", into.Field(i))
			}
		}
	}
}

func wanted(t reflect.Type) string {
	switch {
	case t == durationType:
		return "a time with its unit, such as 90s, 30m, 12h or 7d"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int:
		return "a whole number"
	case t.Kind() == reflect.Float64:
		return "a number"
	}
	return "a text"
}

// parseDuration reads what time.ParseDuration reads, and whole days.
func parseDuration(text string) (time.Duration, error) {
	if days, found := strings.CutSuffix(text, "d"); found {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	length, err := time.ParseDuration(text)
	if err == nil && length < 0 {
		err = errors.New("negative")
	}
	if text == "0" {
		err = errors.New("no unit")
	}
	return length, err
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for field := range t.Fields() {
		keys = append(keys, field.Tag.Get("key"))
	}
	return keys
}

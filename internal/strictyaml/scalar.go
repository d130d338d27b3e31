package strictyaml

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

var durationType = reflect.TypeFor[time.Duration]()

func (d *Document) scalar(path string, node *yaml.Node, into reflect.Value) {
	if node.Kind != yaml.ScalarNode || node.Tag == "!!null" {
		d.report(path, "has no value of its own", "write "+wanted(into.Type()))
		return
	}
	var err error
	switch {
	case into.Type() == durationType:
		var length time.Duration
		if length, err = parseDuration(node.Value); err == nil {
			into.SetInt(int64(length))
		}
	case into.Kind() == reflect.String && d.format.Quotes && node.Tag != "!!str":
		d.report(path, fmt.Sprintf("%s is no text", node.Value), fmt.Sprintf("put it in quotes: %q", node.Value))
		return
	case into.CanInt() && node.Tag != "!!int":
		err = errors.New("no whole number")
	default:
		err = node.Decode(into.Addr().Interface())
	}
	if err != nil {
		d.report(path, fmt.Sprintf("%q is not %s", node.Value, wanted(into.Type())), "write "+wanted(into.Type()))
	}
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

// fill gives a struct what the tags of its fields say; other values have no defaults.
func (d *Document) fill(into reflect.Value) {
	if into.Kind() != reflect.Struct {
		return
	}
	scratch := Document{format: d.format, places: map[string]Place{}}
	for i := range into.NumField() {
		field := into.Type().Field(i)
		if field.Type.Kind() == reflect.Struct {
			d.fill(into.Field(i))
		} else if text, ok := field.Tag.Lookup("default"); ok {
			var document yaml.Node
			if err := yaml.Unmarshal([]byte(text), &document); err == nil {
				scratch.decode("", document.Content[0], into.Field(i))
			}
		}
	}
}

// wanted says what kind of value a type needs.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	if t == durationType {
		return "a time with its unit, such as 90s, 30m, 12h or 7d"
	}
	return "a whole number"
}

package manifest

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// lookUp finds the type of a field by its path, or nil.
func lookUp(t reflect.Type, path string) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if path == "" {
		return t
	}
	if rest, ok := strings.CutPrefix(path, "[]"); ok && t.Kind() == reflect.Slice {
		return lookUp(t.Elem(), strings.TrimPrefix(rest, "."))
	}
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		end = len(path)
	}
	name, rest := path[:end], strings.TrimPrefix(path[end:], ".")
	if t.Kind() == reflect.Map {
		return lookUp(t.Elem(), rest)
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	for i := range t.NumField() {
		tag, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if tag == name {
			return lookUp(t.Field(i).Type, rest)
		}
		if tag == "" || options == "inline" {
			if found := lookUp(t.Field(i).Type, path); found != nil {
				return found
			}
		}
	}
	return nil
}

func TestEveryPathThatIsHonouredAcceptedOrRemediedIsOneOfAPod(t *testing.T) {
	paths := slices.Concat(honoured(), sortedKeys(accepted()), sortedKeys(remedies()))
	for _, path := range paths {
		if lookUp(reflect.TypeFor[corev1.Pod](), path) == nil {
			t.Errorf("a Pod has no %s", path)
		}
	}
}

func TestNothingIsBothHonouredAndRefusedBelow(t *testing.T) {
	u := &unsupported{inner: map[string]bool{}}
	for _, path := range slices.Concat(honoured(), sortedKeys(accepted())) {
		u.addAbove(path)
	}
	for _, path := range honoured() {
		if u.inner[path] {
			t.Errorf("%s is honoured as a whole, and in parts too", path)
		}
	}
}

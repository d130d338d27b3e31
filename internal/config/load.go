// Package config reads the configuration of controllers and agents: a YAML file, DRYDOCK_* variables and flags, the later
// before the earlier. What it does not know is an error that names the nearest thing that it does know.
package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"drydock/internal/spelling"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"sigs.k8s.io/yaml"
)

const envPrefix = "DRYDOCK_"

// load reads file (none where empty), the environment and the flags that were set into a copy of defaults. A flag belongs to
// the key of its name, with dashes for dots.
func load[T any](file string, flags *pflag.FlagSet, defaults T) (T, error) {
	result := defaults
	keys := keysOf(reflect.TypeFor[T](), "")
	values := viper.New()
	if file != "" {
		values.SetConfigFile(file)
		values.SetConfigType("yaml")
		if err := values.ReadInConfig(); err != nil {
			return result, fmt.Errorf("read configuration %s: %w", file, err)
		}
		maps := mapsOf(reflect.TypeFor[T]())
		if err := knownKeys(file, withoutBelow(values.AllKeys(), maps), keys); err != nil {
			return result, err
		}
		if err := setMaps(values, file, maps); err != nil {
			return result, err
		}
	}
	if err := environment(values, keys); err != nil {
		return result, err
	}
	setFlags(values, flags, keys)
	decode := viper.DecodeHook(mapstructure.ComposeDecodeHookFunc(
		mapstructure.StringToTimeDurationHookFunc(), mapstructure.StringToSliceHookFunc(","), refuseNumbers))
	if err := values.UnmarshalExact(&result, decode); err != nil {
		return result, fmt.Errorf("configuration %s: %w", orDefaults(file), err)
	}
	return result, nil
}

// refuseNumbers keeps `report-interval: 2` from being two nanoseconds.
func refuseNumbers(from, to reflect.Type, data any) (any, error) {
	if to == durationType && from.Kind() != reflect.String && from != durationType {
		return nil, fmt.Errorf("%v has no unit: write for example %vs", data, data)
	}
	return data, nil
}

func orDefaults(file string) string {
	if file == "" {
		return "from environment and flags"
	}
	return file
}

// keysOf lists the leaves of a configuration struct, in dotted form.
func keysOf(t reflect.Type, prefix string) []string {
	var keys []string
	for field := range t.Fields() {
		key := prefix + field.Tag.Get("mapstructure")
		if field.Type.Kind() == reflect.Struct {
			keys = append(keys, keysOf(field.Type, key+".")...)
		} else {
			keys = append(keys, key)
		}
	}
	return keys
}

// mapsOf lists the keys that hold a map of texts.
func mapsOf(t reflect.Type) []string {
	var keys []string
	for field := range t.Fields() {
		if field.Type == reflect.TypeFor[map[string]string]() {
			keys = append(keys, field.Tag.Get("mapstructure"))
		}
	}
	return keys
}

// withoutBelow leaves out what is written in a map: its keys are the operator's.
func withoutBelow(found, maps []string) []string {
	return slices.DeleteFunc(found, func(key string) bool {
		return slices.ContainsFunc(maps, func(m string) bool { return strings.HasPrefix(key, m+".") })
	})
}

// setMaps reads maps from the file itself: viper would take dots in their keys apart, and write them small.
func setMaps(values *viper.Viper, file string, maps []string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read configuration %s: %w", file, err)
	}
	var content map[string]any
	if err := yaml.Unmarshal(data, &content); err != nil {
		return fmt.Errorf("read configuration %s: %w", file, err)
	}
	for _, key := range maps {
		written, ok := content[key].(map[string]any)
		if !ok {
			continue
		}
		texts := make(map[string]string, len(written))
		for name, value := range written {
			texts[name] = fmt.Sprint(value)
		}
		values.Set(key, texts)
	}
	return nil
}

func knownKeys(file string, found, keys []string) error {
	var unknown error
	slices.Sort(found)
	for _, key := range found {
		if !slices.Contains(keys, key) {
			unknown = errors.Join(unknown, fmt.Errorf("configuration %s: unknown key %q: the nearest that is known is %q", file, key, spelling.Nearest(key, keys)))
		}
	}
	return unknown
}

// environment takes the variables of known keys. A variable of an unknown key belongs to somebody else, unless it looks like a
// known one with a slip in it.
func environment(values *viper.Viper, keys []string) error {
	variables := make([]string, 0, len(keys))
	for _, key := range keys {
		name := variable(key)
		variables = append(variables, name)
		if value, ok := os.LookupEnv(name); ok {
			values.Set(key, value)
		}
	}
	var unknown error
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(variables, name) {
			continue
		}
		if near := spelling.Nearest(name, variables); spelling.Distance(name, near) <= 2 {
			unknown = errors.Join(unknown, fmt.Errorf("environment variable %s is not known: did you mean %s?", name, near))
		}
	}
	return unknown
}

func variable(key string) string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

func setFlags(values *viper.Viper, flags *pflag.FlagSet, keys []string) {
	if flags == nil {
		return
	}
	for _, key := range keys {
		flag := flags.Lookup(strings.ReplaceAll(key, ".", "-"))
		if flag == nil || !flag.Changed {
			continue
		}
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			values.Set(key, list.GetSlice())
		} else {
			values.Set(key, flag.Value.String())
		}
	}
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"

	v1 "drydock/api/drydock/v1"
	"drydock/internal/config"
	pools "drydock/orchestrator/pool"
	"drydock/pods/manifest"
)

// configKind is one kind of file that drydock reads, and how it finds faults in one.
type configKind struct {
	name, what string
	check      func(path string) error
}

func configKinds() []configKind {
	return []configKind{
		{"client", "settings of the command line", checkClientConfig},
		{"controller", "a controller's configuration", func(path string) error {
			_, err := config.LoadController(path, nil)
			return err
		}},
		{"agent", "an agent's configuration", func(path string) error {
			_, err := config.LoadAgent(path, nil)
			return err
		}},
		{"pool", "a pool", checkPool},
		{"pod", "a pod's manifest", checkManifest},
		{"service", "a service's upgrade record", checkRecord},
	}
}

func newConfigCommand(a *app) *cobra.Command {
	return newGroup("config", "Configuration files", newConfigCheck(a))
}

func newConfigCheck(a *app) *cobra.Command {
	var name string
	var kinds []string
	for _, k := range configKinds() {
		kinds = append(kinds, k.name)
	}
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Find faults in a configuration file, without a controller",
		Args:  exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(); err != nil {
				return err
			}
			path := args[0]
			if _, err := os.Stat(path); err != nil {
				return &failure{status: statusMisuse, message: fmt.Sprintf("configuration %s: %s", path, rootCause(err))}
			}
			if name == "" {
				name = kindOf(path)
			}
			i := slices.Index(kinds, name)
			if i < 0 {
				return misuse(cmd, "kind %q: must be one of %s", name, strings.Join(kinds, ", "))
			}
			kind := configKinds()[i]
			if err := kind.check(path); err != nil {
				return configFault(err)
			}
			return a.print(map[string]string{"file": path, "kind": kind.name}, func(t *table) {
				t.line("%s: no fault found (%s)", path, kind.what)
			})
		},
	}
	cmd.Flags().StringVar(&name, "kind", "", "what the file is: "+strings.Join(kinds, ", ")+"; else its name tells")
	a.complete(cmd, "kind", fixed(kinds...))
	return cmd
}

// kindOf tells a file's kind by its name, such as agent.yaml or controller-2.yaml, or by its directory, such as pools/web.yaml.
func kindOf(path string) string {
	switch filepath.Base(filepath.Dir(path)) {
	case "pools":
		return "pool"
	case "services":
		return "service"
	}
	for _, k := range configKinds() {
		if strings.HasPrefix(filepath.Base(path), k.name) {
			return k.name
		}
	}
	return "client"
}

// configFault is a fault that was found: the file is refused, and the check was asked for rightly.
func configFault(err error) error {
	var f *failure
	switch {
	case errors.As(err, &f):
		return &failure{status: statusRefused, message: f.message, refusals: f.refusals, remedies: f.remedies}
	case errors.As(err, new(*fs.PathError)):
		return err
	}
	return &failure{status: statusRefused, message: err.Error()}
}

func checkManifest(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if _, err := manifest.Decode(data); err != nil {
		return podFault(err)
	}
	return nil
}

func checkPool(path string) error {
	_, err := pools.Load(path)
	var faults pools.Faults
	if !errors.As(err, &faults) {
		return err
	}
	f := &failure{status: statusRefused, message: fmt.Sprintf("pool %s has %d faults", path, len(faults))}
	if len(faults) == 1 {
		f.message = fmt.Sprintf("pool %s has a fault", path)
	}
	for _, fault := range faults {
		f.refusals = append(f.refusals, &v1.Refusal{Reason: fault.Error(), Remedy: fault.Remedy})
	}
	return f
}

func checkClientConfig(path string) error {
	v := viper.New()
	if err := readConfig(v, path); err != nil {
		return err
	}
	_, err := decodeSettings(v)
	return err
}

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"
)

// configKind is one kind of file that drydock reads, and how it finds faults in one.
type configKind struct {
	name, what string
	check      func(path string) error
}

// configKinds are all kinds of files; controllers and agents add theirs here.
func configKinds() []configKind {
	return []configKind{
		{"client", "settings of the command line", checkClientConfig},
	}
}

func newConfigCommand(a *app) *cobra.Command {
	return newGroup("config", "Configuration files", newConfigCheck(a))
}

func newConfigCheck(a *app) *cobra.Command {
	var kind string
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
			if _, err := os.Stat(args[0]); err != nil {
				return &failure{status: statusMisuse, message: err.Error()}
			}
			for _, k := range configKinds() {
				if k.name != kind {
					continue
				}
				if err := k.check(args[0]); err != nil {
					return err
				}
				return a.print(map[string]string{"file": args[0], "kind": kind}, func(t *table) {
					t.line("%s: no fault found (%s)", args[0], k.what)
				})
			}
			return misuse(cmd, "kind %q: must be %s", kind, strings.Join(kinds, " or "))
		},
	}
	cmd.Flags().StringVar(&kind, "kind", kinds[0], "what the file is: "+strings.Join(kinds, ", "))
	a.complete(cmd, "kind", fixed(kinds...))
	return cmd
}

func checkClientConfig(path string) error {
	v := viper.New()
	if err := readConfig(v, path); err != nil {
		return err
	}
	if _, err := decodeSettings(v); err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	return nil
}

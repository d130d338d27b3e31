package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"
)

// settings are what holds for every command. Each is looked for as a flag, then as DRYDOCK_NAME in the environment, then in
// the configuration file.
type settings struct {
	Context string        `mapstructure:"context"`
	Server  string        `mapstructure:"server"`
	CA      string        `mapstructure:"ca"`
	Cert    string        `mapstructure:"cert"`
	Key     string        `mapstructure:"key"`
	Output  string        `mapstructure:"output"`
	Timeout time.Duration `mapstructure:"timeout"`
}

func settingKeys() []string {
	return []string{"context", "server", "ca", "cert", "key", "output", "timeout"}
}

func outputFormats() []string { return []string{"table", "json", "yaml"} }

const defaultTimeout = 30 * time.Second

// addGlobalFlags gives cmd and all below it the flags of the settings.
func (a *app) addGlobalFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.String("context", "", "context to use, of those in the file of contexts")
	f.String("server", "", "controller: unix:///path or https://host:port; several with commas")
	f.String("ca", "", "PEM file of the CA that the controller's certificate must come from")
	f.String("cert", "", "PEM file of the client certificate")
	f.String("key", "", "PEM file of the client certificate's key")
	f.StringP("output", "o", "table", "table, json or yaml")
	f.Duration("timeout", defaultTimeout, "longest wait for an answer that needs no work")
	a.flags = f
	a.complete(cmd, "context", contextNames)
	a.complete(cmd, "output", fixed(outputFormats()...))
}

// load reads the settings once.
func (a *app) load() error {
	if a.settings.Output != "" {
		return nil
	}
	path, err := configPath()
	if err != nil {
		return err
	}
	v := viper.New()
	if path != "" {
		if err := readConfig(v, path); err != nil {
			return err
		}
	}
	v.SetEnvPrefix("DRYDOCK")
	for _, key := range settingKeys() {
		if err := errors.Join(v.BindEnv(key), v.BindPFlag(key, a.flags.Lookup(key))); err != nil {
			return fmt.Errorf("setting %s: %w", key, err)
		}
	}
	s, err := decodeSettings(v)
	if err != nil {
		return err
	}
	a.settings = s
	return nil
}

// configPath returns the configuration file's path, or nothing where there is no home directory or no such file.
func configPath() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", nil // no home, no file: systemd units and initial RAM disks have none
	}
	path := filepath.Join(dir, "drydock", "config.yaml")
	switch _, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("configuration: %w", err)
	}
	return path, nil
}

// readConfig reads the file at path into v. An unknown key is an error.
func readConfig(v *viper.Viper, path string) error {
	v.SetConfigFile(path)
	v.SetConfigType("yaml")
	if err := v.ReadInConfig(); err != nil {
		return &failure{status: statusMisuse, message: fmt.Sprintf("configuration %s: %v", path, err)}
	}
	for _, key := range v.AllKeys() {
		if !slices.Contains(settingKeys(), key) {
			return &failure{
				status:   statusMisuse,
				message:  fmt.Sprintf("configuration %s: unknown key %q", path, key),
				remedies: []string{"remove it; the keys are " + strings.Join(settingKeys(), ", ")},
			}
		}
	}
	return nil
}

// decodeSettings takes what v holds, and refuses values that mean nothing.
func decodeSettings(v *viper.Viper) (settings, error) {
	s := settings{}
	v.SetDefault("output", "table")
	v.SetDefault("timeout", defaultTimeout)
	bad := func(key, why string) (settings, error) {
		return settings{}, &failure{
			status:  statusMisuse,
			message: fmt.Sprintf("%s %q: %s", key, v.GetString(key), why),
			remedies: []string{fmt.Sprintf("correct --%s, DRYDOCK_%s or %s in the configuration file",
				key, strings.ToUpper(key), key)},
		}
	}
	if err := v.UnmarshalExact(&s); err != nil {
		return bad("timeout", "must be a duration such as 30s") // the only one that is no text
	}
	if !slices.Contains(outputFormats(), s.Output) {
		return bad("output", "must be one of "+strings.Join(outputFormats(), ", "))
	}
	if s.Timeout <= 0 {
		return bad("timeout", "must be longer than nothing")
	}
	return s, nil
}

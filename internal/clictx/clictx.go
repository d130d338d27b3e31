// Package clictx keeps the operator's contexts: which controllers the command line knows, how it proves who it is to
// each, and which one it talks to when nothing is said. The file is YAML, readable by its owner only, and every change
// is made under a lock and put in place whole, so that two commands at once lose nothing.
package clictx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"drydock/internal/durable"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
)

// Environment variables that the operator may set.
const (
	EnvFile    = "DRYDOCK_CONTEXTS" // path of the file of contexts
	EnvContext = "DRYDOCK_CONTEXT"  // name of the context to use, whatever the file says is current
)

// ErrNoContext is returned, wrapped, when a context is asked for that the file does not hold.
var ErrNoContext = errors.New("no such context")

// Context is one controller and the credentials for it. CA, Cert and Key are paths of PEM files; where one is empty, what would be
// in it may be in the context itself.
type Context struct {
	Name   string `yaml:"name"`
	Server string `yaml:"server"` // unix:///path/of/socket or https://host:port, several with commas
	CA     string `yaml:"ca,omitempty"`
	Cert   string `yaml:"cert,omitempty"`
	Key    string `yaml:"key,omitempty"`

	CAData   string `yaml:"ca-data,omitempty"`
	CertData string `yaml:"cert-data,omitempty"`
	KeyData  string `yaml:"key-data,omitempty"`
}

// HasCredentials says whether the context says who the operator is.
func (c Context) HasCredentials() bool {
	return c.CA+c.Cert+c.Key+c.CAData+c.CertData+c.KeyData != ""
}

// File is what the file of contexts holds.
type File struct {
	CurrentContext string    `yaml:"current-context"`
	Contexts       []Context `yaml:"contexts"`
}

// Path is where the contexts are: $DRYDOCK_CONTEXTS, else drydock/contexts.yaml in $XDG_CONFIG_HOME or ~/.config.
func Path() (string, error) {
	if p := os.Getenv(EnvFile); p != "" {
		return filepath.Abs(p)
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the contexts: %w; set %s", err, EnvFile)
	}
	return filepath.Join(dir, "drydock", "contexts.yaml"), nil
}

// Load reads the file at path. A file that is not there holds no contexts; an unknown key is an error.
func Load(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &File{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read contexts: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	f := &File{}
	if err := dec.Decode(f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("contexts in %s: %w", path, err)
	}
	return f, nil
}

// Save writes f to path, readable by its owner only. Either the old or the new content is there, never a part.
func Save(path string, f *File) error {
	data, err := yaml.Marshal(f)
	if err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	if err := durable.Replace(path, data, 0o600); err != nil {
		return fmt.Errorf("contexts: %w", err)
	}
	return nil
}

// Set adds c to the file at path, or replaces the context of that name, and makes it the current one.
func Set(path string, c Context) error {
	if c.Name == "" || c.Server == "" {
		return fmt.Errorf("context %q: name and server are needed", c.Name)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	return update(path, func(f *File) {
		f.Contexts = append(without(f.Contexts, c.Name), c)
		f.CurrentContext = c.Name
	})
}

// Remove takes the named context out of the file at path. Where it was the current one, the last of the others becomes
// current. The file goes with its last context, and so does its directory if nothing else is in it. Removing what is
// not there is no error.
func Remove(path, name string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return update(path, func(f *File) {
		f.Contexts = without(f.Contexts, name)
		if f.CurrentContext == name {
			f.CurrentContext = ""
			if n := len(f.Contexts); n > 0 {
				f.CurrentContext = f.Contexts[n-1].Name
			}
		}
	})
}

// Current returns the context called name; an empty name stands for $DRYDOCK_CONTEXT, then for the file's current one.
// The error wraps ErrNoContext when there is none.
func (f *File) Current(name string) (Context, error) {
	if name == "" {
		name = os.Getenv(EnvContext)
	}
	if name == "" {
		name = f.CurrentContext
	}
	if name == "" {
		return Context{}, fmt.Errorf("%w: none is set; `drydock lab up` makes one", ErrNoContext)
	}
	i := slices.IndexFunc(f.Contexts, func(c Context) bool { return c.Name == name })
	if i < 0 {
		return Context{}, fmt.Errorf("context %q: %w", name, ErrNoContext)
	}
	return f.Contexts[i], nil
}

// update changes the file under a lock on its directory, which leaves no lock file behind.
func update(path string, change func(*File)) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("lock contexts: %w", err)
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock contexts in %s: %w", dir.Name(), err)
	}
	f, err := Load(path)
	if err != nil {
		return err
	}
	change(f)
	if len(f.Contexts) > 0 {
		return Save(path, f)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the last context: %w", err)
	}
	if filepath.Base(dir.Name()) == "drydock" {
		_ = os.Remove(dir.Name()) // stays when something else is in it
	}
	return nil
}

func without(list []Context, name string) []Context {
	return slices.DeleteFunc(slices.Clone(list), func(c Context) bool { return c.Name == name })
}

package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netns"
)

const sysctlRoot = "/proc/sys/net"

// Sysctl is one setting of a namespace.
type Sysctl struct {
	Name  string `json:"name"` // path below /proc/sys/net
	Value string `json:"value"`
	// Chosen is set when a fresh namespace of the same host has another value: then failing to set it is an error. The rest
	// is carried along because hosts differ in what they give a fresh namespace, and is set where the destination can.
	Chosen bool `json:"chosen,omitempty"`
}

// saveSysctls returns every setting of the namespace that can be written, and of interfaces those of lo and eth0.
func saveSysctls(ns netns.NsHandle) ([]Sysctl, error) {
	var fresh, own map[string]string
	err := inFreshNamespace(func() (err error) {
		fresh, err = readSysctls()
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := within(ns, func() (err error) { own, err = readSysctls(); return err }); err != nil {
		return nil, err
	}
	var saved []Sysctl
	for name, value := range own {
		usual, ok := fresh[name]
		if !ok {
			usual = fresh[strings.Replace(name, "/"+innerName+"/", "/default/", 1)]
		}
		saved = append(saved, Sysctl{Name: name, Value: value, Chosen: value != usual})
	}
	slices.SortFunc(saved, func(a, b Sysctl) int {
		return 4*(rank(a.Name)-rank(b.Name)) + strings.Compare(a.Name, b.Name)
	})
	return saved, nil
}

// loadSysctls sets what differs. The order matters: forwarding resets others, and what is set for all goes to each.
func loadSysctls(ns netns.NsHandle, settings []Sysctl) error {
	return within(ns, func() error {
		var faults []error
		for _, setting := range settings {
			if !filepath.IsLocal(setting.Name) {
				return fmt.Errorf("sysctl %q is not below net", setting.Name)
			}
			path := filepath.Join(sysctlRoot, setting.Name)
			if value, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(value)) == setting.Value {
				continue
			}
			if err := os.WriteFile(path, []byte(setting.Value), 0o644); err != nil && setting.Chosen {
				faults = append(faults, fmt.Errorf("set %s to %q: %w", path, setting.Value, err))
			}
		}
		return errors.Join(faults...)
	})
}

// readSysctls reads the settings of the thread's namespace.
func readSysctls() (map[string]string, error) {
	settings := map[string]string{}
	for _, dir := range []string{"core", "ipv4", "ipv6", "netfilter"} {
		err := filepath.WalkDir(filepath.Join(sysctlRoot, dir), func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			name, _ := filepath.Rel(sysctlRoot, path)
			if entry.IsDir() {
				if isForeignInterface(name) {
					return fs.SkipDir
				}
				return nil
			}
			info, err := entry.Info()
			if err != nil || info.Mode().Perm()&0o200 == 0 || info.Mode().Perm()&0o444 == 0 || isVolatile(name) {
				return nil
			}
			if value, err := os.ReadFile(path); err == nil {
				settings[name] = strings.TrimSpace(string(value))
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read sysctls: %w", err)
		}
	}
	return settings, nil
}

// isForeignInterface tells whether a directory holds the settings of an interface that does not move.
func isForeignInterface(name string) bool {
	parts := strings.Split(name, "/")
	return len(parts) == 3 && (parts[1] == "conf" || parts[1] == "neigh") &&
		!slices.Contains([]string{"all", "default", "lo", innerName}, parts[2])
}

// isVolatile tells whether a name is a command or a count rather than a setting.
func isVolatile(name string) bool {
	return filepath.Base(name) == "flush" || filepath.Base(name) == "nf_conntrack_count"
}

// rank orders settings: those that reset others, then those for all interfaces, for new ones, and for one.
func rank(name string) int {
	switch {
	case strings.HasSuffix(name, "/ip_forward"), strings.HasSuffix(name, "all/forwarding"):
		return 0
	case strings.Contains(name, "/all/"):
		return 1
	case strings.Contains(name, "/default/"):
		return 2
	default:
		return 3
	}
}

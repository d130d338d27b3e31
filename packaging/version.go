package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"
)

// The versions that the Go tool makes up for commits: v0.0.0-20260102150405-0123456789ab, or v1.2.4-0.2026... after v1.2.3.
var pseudo = regexp.MustCompile(`^v(\d+\.\d+\.\d+)-(?:0\.)?(\d{14})-([0-9a-f]{12})$`)

var tagged = regexp.MustCompile(`^v(\d+\.\d+\.\d+)(?:-([0-9A-Za-z.]+))?$`)

// versionOf reads what the Go tool wrote into the program: Debian's form of its version, and when its source was last
// changed.
func versionOf(binary string) (string, time.Time, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("%s: %w; `make build` makes it", binary, err)
	}
	changed, err := builtAt(binary)
	if err != nil {
		return "", time.Time{}, err
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			if changed, err = time.Parse(time.RFC3339, s.Value); err != nil {
				return "", time.Time{}, fmt.Errorf("%s: time of its commit: %w", binary, err)
			}
		}
	}
	return debianVersion(info.Main.Version, changed), changed, nil
}

func builtAt(binary string) (time.Time, error) {
	info, err := os.Stat(binary)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime().UTC().Truncate(time.Second), nil
}

// debianVersion sorts as the Go tool's version does: what comes before a release is older than it, a later commit newer
// than an earlier one, and a changed tree newer than the commit it was changed from. Programs built outside of version
// control are older than all others, and in the order in which they were built.
func debianVersion(v string, built time.Time) string {
	v, build, _ := strings.Cut(v, "+")
	if build != "" {
		build = "+" + build
	}
	if m := pseudo.FindStringSubmatch(v); m != nil {
		return m[1] + "~" + m[2] + "." + m[3] + build
	}
	if m := tagged.FindStringSubmatch(v); m != nil && m[2] != "" {
		return m[1] + "~" + m[2] + build
	} else if m != nil {
		return m[1] + build
	}
	return "0~" + built.Format("20060102150405")
}

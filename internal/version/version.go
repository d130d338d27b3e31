// Package version tells which version of Drydock this program is.
package version

import "runtime/debug"

// API is counted up with each change of what agents and controllers say to each other that an older peer must know of.
// Peers one apart work together.
const API = 1

// String is what the Go tool wrote into the binary: a tag, or a commit with its date.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}

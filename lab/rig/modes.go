package rig

import (
	"fmt"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
)

// modes that a program may be asked for.
var modes = map[string]drydockv1.MigrationMode{
	"auto":     drydockv1.MigrationMode_MIGRATION_MODE_AUTO,
	"stop":     drydockv1.MigrationMode_MIGRATION_MODE_STOP,
	"precopy":  drydockv1.MigrationMode_MIGRATION_MODE_PRECOPY,
	"postcopy": drydockv1.MigrationMode_MIGRATION_MODE_POSTCOPY,
}

// ParseModes reads a list of modes with commas.
func ParseModes(list string) ([]drydockv1.MigrationMode, error) {
	var all []drydockv1.MigrationMode
	for name := range strings.SplitSeq(list, ",") {
		mode, known := modes[name]
		if !known {
			return nil, fmt.Errorf("mode %q: use auto, stop, precopy or postcopy", name)
		}
		all = append(all, mode)
	}
	return all, nil
}

// ModeName is a mode's name as the command line has it.
func ModeName(mode drydockv1.MigrationMode) string {
	return strings.ToLower(strings.TrimPrefix(mode.String(), "MIGRATION_MODE_"))
}

package patch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/durable"
)

// remember writes down which units have failed now, so that Verify can tell those that fail after the patch. What was written
// down before stays, unless anew is set.
func (h *Host) remember(ctx context.Context, anew bool) error {
	if _, err := os.Stat(h.baselinePath()); !h.underSystemd() || err == nil && !anew {
		return nil
	}
	failed, err := failedUnits(ctx)
	if err != nil {
		return err
	}
	data, err := json.Marshal(failed)
	if err != nil {
		return err
	}
	return durable.Replace(h.baselinePath(), data, 0o600)
}

func failedUnits(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--full", "--no-pager").Output()
	if err != nil {
		return nil, fmt.Errorf("ask systemd which units have failed: %w", err)
	}
	failed := []string{}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 0 {
			failed = append(failed, fields[0])
		}
	}
	return failed, nil
}

// units says which units have failed that had not before, and whether the host is still starting.
func (h *Host) units(ctx context.Context) (reasons []*drydockv1.Refusal, starting bool, err error) {
	// Its exit status says no more than what it writes.
	out, _ := exec.CommandContext(ctx, "systemctl", "is-system-running").Output()
	switch strings.TrimSpace(string(out)) {
	case "initializing", "starting":
		return nil, true, nil
	}
	failed, err := failedUnits(ctx)
	if err != nil {
		return nil, false, err
	}
	var before []string
	data, err := os.ReadFile(h.baselinePath())
	if err == nil {
		err = json.Unmarshal(data, &before)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("units that had failed before: %w", err)
	}
	for _, unit := range failed {
		if !slices.Contains(before, unit) {
			reasons = append(reasons, Refusal("see `journalctl -b -u "+unit+"` on the host", "unit %s has failed, and had not before the patch", unit))
		}
	}
	return reasons, false, nil
}

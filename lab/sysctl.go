package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// pipeSettings are what CRIU's page pipes need for post-copy: they are large, and many. They are the whole machine's.
func pipeSettings() map[string]string {
	return map[string]string{
		"/proc/sys/fs/pipe-user-pages-soft": "0",
		"/proc/sys/fs/pipe-max-size":        "16777216",
	}
}

func sysctlRecord() string { return filepath.Join(runTop, "sysctl.json") }

// raiseSysctls sets the machine's settings and remembers, once for all labs, what they were.
func raiseSysctls(ctx context.Context) error {
	unlock, err := lock(ctx, "machine")
	if err != nil {
		return err
	}
	defer unlock()
	_, err = os.Stat(sysctlRecord())
	if errors.Is(err, fs.ErrNotExist) {
		old := map[string]string{}
		for path := range pipeSettings() {
			data, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("machine setting: %w", err)
			}
			old[path] = strings.TrimSpace(string(data))
		}
		err = writeJSON(sysctlRecord(), old)
	}
	if err != nil {
		return fmt.Errorf("remember the machine's settings: %w", err)
	}
	return writeSysctls(pipeSettings())
}

// leaveMachine puts the machine's settings back when no lab is left, and removes what labs share.
func leaveMachine(ctx context.Context) error {
	unlock, err := lock(ctx, "machine")
	if err != nil {
		return err
	}
	defer unlock()
	left, err := List()
	if err != nil || len(left) > 0 {
		return err
	}
	var old map[string]string
	err = readJSON(sysctlRecord(), &old)
	if err == nil {
		err = errors.Join(writeSysctls(old), os.Remove(sysctlRecord()))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("put the machine's settings back: %w", err)
	}
	if err := removeEmptyGroup(groupTop); err != nil {
		return err
	}
	for _, dir := range []string{runTop, filepath.Dir(runTop), stateTop} {
		_ = os.Remove(dir) // stays where somebody else uses it
	}
	return nil
}

func writeSysctls(values map[string]string) error {
	for path, value := range values {
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return fmt.Errorf("machine setting: %w", err)
		}
	}
	return nil
}

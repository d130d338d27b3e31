package pods

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// mountRoots is how CRIU names, in its log of a restore, the directory in which it puts a container's mounts together.
var mountRoots = regexp.MustCompile(`/tmp/\.criu\.mntns\.[0-9A-Za-z]{6}`)

// RemoveRoots removes the directories that a CRIU which was killed has left of a restore. CRIU removes them itself when it
// comes to an end, so those that it was not killed over are gone. It must be at work no more.
func RemoveRoots(from Restore) error {
	log, err := os.ReadFile(filepath.Join(from.Work, "restore.log"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	seen := make(map[string]bool)
	for _, dir := range mountRoots.FindAllString(string(log), -1) {
		if seen[dir] {
			continue
		}
		seen[dir] = true
		// Nothing is in it: what was mounted there went with CRIU's mount namespace.
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove what CRIU left: %w", err))
		}
	}
	return errors.Join(errs...)
}

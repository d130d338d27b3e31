package owner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"drydock/internal/durable"
)

// writeFile replaces path by v as JSON, durably.
func writeFile(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return durable.Replace(path, append(b, '\n'), 0o600)
}

// readFile fills v from path. found is false when there is no such file.
func readFile(path string, v any) (found bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read: %w", err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("decode %s: %w", path, err)
	}
	return true, nil
}

// knownLayout is an error for a layout that is newer than what this program knows, and for content that names none: it is
// not what was written, and must not pass for an empty one.
func knownLayout(version, known int) error {
	switch {
	case version > known:
		return fmt.Errorf("layout %d, this program knows up to %d: upgrade it", version, known)
	case version < 1:
		return fmt.Errorf("layout %d, this program knows 1 to %d: the content is damaged", version, known)
	}
	return nil
}

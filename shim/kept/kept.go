// Package kept holds what a shim keeps because the server cannot store it: one file for each field of each thing, so that
// several processes of one shim can share them, and a transform of state can read them when the server is upgraded.
//
// What Keep has reported as done survives a kill of the process and a power failure; a kill at any other moment leaves the old
// value or the new one. The files are DIR/PAIR/FIELD/xx/HASH.json: {"field", "key", "value"}.
package kept

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"drydock/internal/durable"
	"drydock/shim/message"
)

// Store is one shim's directory.
type Store struct{ dir string }

// Open makes the directory where it is missing, and tries whether it can be written.
func Open(dir string) (*Store, error) {
	probe := filepath.Join(dir, ".probe")
	if err := errors.Join(durable.Replace(probe, nil, 0o600), durable.Remove(probe)); err != nil {
		return nil, fmt.Errorf("kept fields: %w", err)
	}
	return &Store{dir}, nil
}

// Pair is the part for the translators between two versions, as v1-v2. It is a rules.Keeper.
func (s *Store) Pair(pair string) *Pair { return &Pair{filepath.Join(s.dir, pair)} }

// Pair is what is kept between two versions. It is safe for concurrent use, by several processes too.
type Pair struct{ dir string }

// entry is one file.
type entry struct {
	Field string          `json:"field"`
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

func (p *Pair) path(field, key string) string {
	sum := sha256.Sum256([]byte(key))
	name := hex.EncodeToString(sum[:])
	return filepath.Join(p.dir, url.PathEscape(field), name[:2], name+".json")
}

// Keep replaces what is kept; nil forgets it.
func (p *Pair) Keep(field, key string, v *message.Value) error {
	path := p.path(field, key)
	if v == nil {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return durable.Remove(path)
	}
	data, err := json.Marshal(entry{field, key, v.AppendJSON(nil)})
	if err != nil {
		return err
	}
	return durable.Replace(path, data, 0o600)
}

// Kept is what is kept, or nil.
func (p *Pair) Kept(field, key string) (*message.Value, error) {
	data, err := os.ReadFile(p.path(field, key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var e entry
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("%s: %w", p.path(field, key), err)
	}
	return message.ParseJSON(e.Value)
}

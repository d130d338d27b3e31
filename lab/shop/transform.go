package shop

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// change makes what a version has stored what another understands.
type change struct {
	from, to string
	order    func(id string, o order) (order, error)
}

// Transform turns what a version has stored into what its neighbour understands: up, back, or notes, which takes in what a shim has
// kept. An order of another currency has no way back.
func Transform(dir, kept, name string) error {
	notes, err := notesIn(kept)
	if err != nil {
		return err
	}
	c, ok := map[string]change{
		"up":   {"v1", "v2", func(_ string, o order) (order, error) { return order{Amount: o.Cents, Currency: "EUR"}, nil }},
		"back": {"v2", "v1", back},
		"notes": {"v2", "v3", func(id string, o order) (order, error) {
			o.Note = notes[id]
			return o, nil
		}},
	}[name]
	if !ok {
		return fmt.Errorf("there is no transform %q", name)
	}
	f, err := load(dir, c.from)
	if err != nil {
		return err
	}
	for id, o := range f.Orders {
		if f.Orders[id], err = c.order(id, o); err != nil {
			return err
		}
	}
	f.Version = c.to
	return f.save(dir)
}

func back(id string, o order) (order, error) {
	if o.Currency != "EUR" {
		return o, fmt.Errorf("order %s is in %s, which v1 does not know", id, o.Currency)
	}
	return order{Cents: o.Amount}, nil
}

// notesIn are the notes that a shim has kept, by order.
func notesIn(kept string) (map[string]string, error) {
	notes := make(map[string]string)
	err := filepath.WalkDir(filepath.Join(kept, "v2-v3", "note"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var note struct{ Key, Value string }
		if err := json.Unmarshal(data, &note); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		notes[note.Key] = note.Value
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return notes, err
}

package transform

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"drydock/internal/durable"
)

// stage is how far an order is.
type stage string

const (
	// begun: the old state is in force, and the copy is of no use yet.
	begun stage = "begun"
	// committed: the new state is in force, or to be put into force.
	committed stage = "committed"
	// reverting: the old state is in force again, or to be put into force.
	reverting stage = "reverting"
	// settled: the new state is in force for good.
	settled stage = "settled"
)

// journal is the file that says what is in force. None: nothing is under way.
type journal struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Stage   stage  `json:"stage"`
	// Files: the volumes are changed too.
	Files bool            `json:"files,omitempty"`
	From  json.RawMessage `json:"from,omitempty"`
	To    json.RawMessage `json:"to,omitempty"`
}

const journalVersion = 1

func (c Change) load() (journal, error) {
	data, err := os.ReadFile(c.Journal)
	if errors.Is(err, fs.ErrNotExist) {
		return journal{}, nil
	}
	var j journal
	if err == nil {
		err = json.Unmarshal(data, &j)
	}
	if err == nil && j.Version != journalVersion {
		err = fmt.Errorf("has version %d, this agent reads %d: install the agent that wrote it", j.Version, journalVersion)
	}
	if err != nil {
		return journal{}, fmt.Errorf("journal %s: %w", c.Journal, err)
	}
	return j, nil
}

func (c Change) save(j journal) error {
	j.Version = journalVersion
	data, err := json.Marshal(j)
	if err != nil {
		return err
	}
	return durable.Replace(c.Journal, data, 0o600)
}

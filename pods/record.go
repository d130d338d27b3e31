package pods

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/durable"

	"google.golang.org/protobuf/encoding/protojson"
)

// Role says why a pod's parts are on this host.
type Role string

const (
	// Owned pods were started here, or arrived here.
	Owned Role = "owned"
	// Incoming pods are being received; nothing of them may run before their migration is committed.
	Incoming Role = "incoming"
)

// Record is what a host remembers of a pod across restarts.
type Record struct {
	Spec  *drydockv1.PodSpec
	Epoch uint64
	// Born is the epoch in which the pod was created: another pod of its name has another one. Zero where that is not known.
	Born uint64
	Role Role
	// Migration is set while the role is incoming.
	Migration string
	// Restarts counts, by container, since the pod was made.
	Restarts map[string]int32
	// Ended is set once a container ended and the restart policy does not start it again.
	Ended bool
}

type recordFile struct {
	Version   int              `json:"version"`
	Spec      json.RawMessage  `json:"spec"`
	Epoch     uint64           `json:"epoch"`
	Born      uint64           `json:"born,omitempty"`
	Role      Role             `json:"role"`
	Migration string           `json:"migration,omitempty"`
	Restarts  map[string]int32 `json:"restarts,omitempty"`
	Ended     bool             `json:"ended,omitempty"`
}

const recordVersion = 1

// ErrNotFound is returned for a pod that this host does not have.
var ErrNotFound = errors.New("no such pod on this host")

// Record reads what the host remembers of a pod; ErrNotFound where that is nothing.
func (r *Runtime) Record(pod string) (*Record, error) {
	data, err := os.ReadFile(r.recordPath(pod))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pod %s: %w", pod, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read the record of pod %s: %w", pod, err)
	}
	var file recordFile
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("record of pod %s: %w", pod, err)
	}
	if file.Version != recordVersion {
		return nil, fmt.Errorf("record of pod %s has version %d, this agent reads %d: install the agent that wrote it", pod, file.Version, recordVersion)
	}
	spec := new(drydockv1.PodSpec)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(file.Spec, spec); err != nil {
		return nil, fmt.Errorf("record of pod %s: %w", pod, err)
	}
	return &Record{Spec: spec, Epoch: file.Epoch, Born: file.Born, Role: file.Role, Migration: file.Migration, Restarts: file.Restarts, Ended: file.Ended}, nil
}

// Save writes a pod's record durably: after a crash it is either the old or the new one.
func (r *Runtime) Save(rec *Record) error {
	spec, err := protojson.Marshal(rec.Spec)
	if err != nil {
		return err
	}
	data, err := json.Marshal(recordFile{recordVersion, spec, rec.Epoch, rec.Born, rec.Role, rec.Migration, rec.Restarts, rec.Ended})
	if err != nil {
		return err
	}
	return durable.Replace(r.recordPath(rec.Spec.Name), data, 0o600)
}

// Names lists the pods that this host has, whatever their state.
func (r *Runtime) Names() ([]string, error) {
	paths, err := filepath.Glob(r.recordPath("*"))
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(paths))
	for _, path := range paths {
		names = append(names, filepath.Base(filepath.Dir(path)))
	}
	return names, nil
}

func (r *Runtime) recordPath(pod string) string { return filepath.Join(r.podDir(pod), "pod.json") }

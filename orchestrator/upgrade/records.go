package upgrade

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.yaml.in/yaml/v3"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/strictyaml"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
	"drydock/shim/record"
)

const (
	// part is how much of a file is stored under one key; the store takes no more than 1.5 MiB at once.
	part = 1 << 20
	// filesAtMost is how much may lie beside a record, in bytes.
	filesAtMost = 64 << 20
)

// checked parses a record and runs its examples.
func checked(ctx context.Context, m *drydockv1.ApplyServiceRequest) (*record.Record, error) {
	size := 0
	for _, data := range m.GetFiles() {
		size += len(data)
	}
	if size > filesAtMost {
		return nil, invalid("apply service %s: %d bytes of files are too many: %d at most", m.GetName(), size, filesAtMost)
	}
	r, err := record.Parse(m.GetFile(), m.GetText(), memory(m.GetFiles()))
	if err != nil {
		return nil, faults(m.GetName(), err)
	}
	if err := r.Check(ctx); err != nil {
		return nil, errors.Join(faults(m.GetName(), err), r.Close())
	}
	return r, nil
}

// faults is a refusal that lists what is wrong with a record.
func faults(name string, err error) error {
	var problems strictyaml.Problems
	if !errors.As(err, &problems) {
		return err
	}
	var reasons []*drydockv1.Refusal
	for _, p := range problems {
		reasons = append(reasons, refusal.Because(fmt.Sprintf("%s:%d:%d: %s: %s", p.File, p.Line, p.Column, p.Field, p.Reason), p.Remedy))
	}
	return refusal.New("apply service "+name, reasons...)
}

// load parses a stored record. Its examples were run when it was applied.
func (s *Services) load(ctx context.Context, stored *drydockv1.ServiceRecord) (*record.Record, error) {
	files, err := s.filesOf(ctx, stored)
	if err != nil {
		return nil, err
	}
	r, err := record.Parse(stored.GetFile(), stored.GetText(), files)
	if err != nil {
		return nil, fmt.Errorf("record of service %s: %w", stored.GetName(), err)
	}
	return r, nil
}

// filesOf are the files that a stored record names.
func (s *Services) filesOf(ctx context.Context, stored *drydockv1.ServiceRecord) (memory, error) {
	files := make(memory)
	for name, sum := range stored.GetFiles() {
		var data []byte
		response, err := s.Store.Client().Get(ctx, s.filePrefix(sum), clientv3.WithPrefix())
		if err != nil {
			return nil, fmt.Errorf("read %s of service %s: %w", name, stored.GetName(), err)
		}
		for _, kv := range response.Kvs {
			data = append(data, kv.Value...)
		}
		files[name] = data
	}
	return files, nil
}

// head is what is read of a record that is known to be right, where no translator is needed.
type head struct {
	Versions []string        `yaml:"versions"`
	Client   record.Client   `yaml:"client"`
	Gateway  *record.Gateway `yaml:"gateway"`
}

func headOf(stored *drydockv1.ServiceRecord) (head, error) {
	var h head
	if err := yaml.Unmarshal(stored.GetText(), &h); err != nil {
		return h, fmt.Errorf("record of service %s: %w", stored.GetName(), err)
	}
	return h, nil
}

func versionsOf(stored *drydockv1.ServiceRecord) ([]string, error) {
	h, err := headOf(stored)
	return h.Versions, err
}

func (s *Services) filePrefix(sum string) string { return s.Prefix + "service-files/" + sum + "/" }

// keepFiles stores files by what is in them, each in parts. Those that are there are not written again.
func (s *Services) keepFiles(ctx context.Context, files map[string][]byte) (map[string]string, error) {
	sums := make(map[string]string, len(files))
	for name, data := range files {
		sum := sha256.Sum256(data)
		sums[name] = hex.EncodeToString(sum[:])
		for i, n := 0, 0; i == 0 || n < len(data); i++ {
			end := min(n+part, len(data))
			if _, err := s.Store.Txn().PutBytes(fmt.Sprintf("%s%06d", s.filePrefix(sums[name]), i), data[n:end]).Commit(ctx); err != nil {
				return nil, fmt.Errorf("store %s: %w", name, err)
			}
			n = end
		}
	}
	return sums, nil
}

// dropFiles deletes files that no record names. The caller holds the lock "services".
func (s *Services) dropFiles(ctx context.Context) error {
	items, err := store.List[drydockv1.ServiceRecord](ctx, s.Store, s.Prefix+"services/")
	if err != nil {
		return err
	}
	var named []string
	for _, item := range items {
		for _, sum := range item.Value.GetFiles() {
			named = append(named, sum)
		}
	}
	prefix := s.Prefix + "service-files/"
	response, err := s.Store.Client().Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return fmt.Errorf("list files of services: %w", err)
	}
	for _, kv := range response.Kvs {
		sum, _, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), prefix), "/")
		if slices.Contains(named, sum) {
			continue
		}
		if _, err := s.Store.Txn().Delete(string(kv.Key)).Commit(ctx); err != nil {
			return err
		}
	}
	return nil
}

// memory are files that a record names, as a file system.
type memory map[string][]byte

// Open implements fs.FS.
func (m memory) Open(name string) (fs.File, error) {
	data, ok := m[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memoryFile{name: name, size: int64(len(data)), Reader: strings.NewReader(string(data))}, nil
}

type memoryFile struct {
	name string
	size int64
	*strings.Reader
}

var _ io.Reader = (*memoryFile)(nil)

func (f *memoryFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f *memoryFile) Close() error               { return nil }
func (f *memoryFile) Name() string               { return f.name }
func (f *memoryFile) Size() int64                { return f.size }
func (f *memoryFile) Mode() fs.FileMode          { return 0o444 }
func (f *memoryFile) ModTime() time.Time         { return time.Time{} }
func (f *memoryFile) IsDir() bool                { return false }
func (f *memoryFile) Sys() any                   { return nil }

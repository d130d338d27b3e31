package migrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/durable"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
)

// reports keeps the reports that no controller has taken yet.
type reports struct{ dir string }

func (e *Engine) reports() reports { return reports{filepath.Join(e.DataDir, "reports")} }

func (s reports) path(id string) string { return filepath.Join(s.dir, id+".json") }

// load returns nil for a report that is not here.
func (s reports) load(id string) (*drydockv1.MigrationReport, error) {
	data, err := os.ReadFile(s.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	report := new(drydockv1.MigrationReport)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, report); err != nil {
		return nil, fmt.Errorf("report of migration %s: %w", id, err)
	}
	return report, nil
}

func (s reports) save(report *drydockv1.MigrationReport) error {
	data, err := protojson.Marshal(report)
	if err != nil {
		return err
	}
	return durable.Replace(s.path(report.Id), data, 0o600)
}

// deliver gives a migration's report to a controller. One that cannot be delivered now is by DeliverReports.
func (m *move) deliver(ctx context.Context) {
	if err := m.Store.Finish(ctx, m.report); err != nil {
		m.Log.Warn("report is kept until a controller takes it", "migration", m.spec.Id, "error", err)
		return
	}
	_ = os.Remove(m.reports().path(m.spec.Id))
}

// DeliverReports gives a controller the reports that are still here.
func (e *Engine) DeliverReports(ctx context.Context) error {
	paths, err := filepath.Glob(filepath.Join(e.reports().dir, "*.json"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range paths {
		report, err := e.reports().load(strings.TrimSuffix(filepath.Base(path), ".json"))
		if err == nil && report != nil {
			err = e.Store.Finish(ctx, report)
		}
		if connect.CodeOf(err) == connect.CodeNotFound {
			// The store was restored from an older backup, and knows nothing of that migration.
			e.Log.Warn("a report is given up: no controller knows its migration", "migration", report.Id, "outcome", report.Outcome)
			err = nil
		}
		if err == nil {
			err = os.Remove(path)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

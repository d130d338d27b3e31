package migrate

import (
	"context"
	"sync"

	drydockv1 "drydock/api/drydock/v1"
)

// feed tells any number of listeners how a migration goes. A slow listener misses progress, never the report.
type feed struct {
	mu        sync.Mutex
	last      *drydockv1.MigrationProgress
	report    *drydockv1.MigrationReport
	listeners map[chan struct{}]bool
}

func newFeed() *feed { return &feed{listeners: make(map[chan struct{}]bool)} }

func (f *feed) say(p *drydockv1.MigrationProgress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = p
	f.wake()
}

func (f *feed) end(report *drydockv1.MigrationReport) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.report = report
	f.wake()
}

func (f *feed) wake() {
	for listener := range f.listeners {
		select {
		case listener <- struct{}{}:
		default:
		}
	}
}

// follow sends what is said to sink until the report, the last thing sent.
func (f *feed) follow(ctx context.Context, sink func(*drydockv1.MigratePodResponse) error) error {
	changed := make(chan struct{}, 1)
	changed <- struct{}{}
	f.mu.Lock()
	f.listeners[changed] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.listeners, changed)
		f.mu.Unlock()
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		f.mu.Lock()
		progress, report := f.last, f.report
		f.mu.Unlock()
		if report != nil {
			return sink(&drydockv1.MigratePodResponse{Event: &drydockv1.MigratePodResponse_Report{Report: report}})
		}
		if progress == nil {
			continue
		}
		if err := sink(&drydockv1.MigratePodResponse{Event: &drydockv1.MigratePodResponse_Progress{Progress: progress}}); err != nil {
			return err
		}
	}
}

package status

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	drydockv1 "drydock/api/drydock/v1"

	"github.com/fsnotify/fsnotify"
)

// Fresh keeps a host's status up to date without anyone asking: it looks again when what packages are installed, their sources
// or /run/reboot-required change, and now and then, since processes come and go; and it asks the sources for what is new.
type Fresh struct {
	Collector *Collector
	// Every is how often it looks where nothing seems to change.
	Every time.Duration
	// Refresh is how often it asks the sources; 0: never by itself.
	Refresh time.Duration
	// Refreshed tells when they were asked last, before this program's start too.
	Refreshed func() (time.Time, error)
	Log       *slog.Logger

	mu     sync.Mutex
	latest *Snapshot
}

// Snapshot is a status with what is made of it.
type Snapshot struct {
	Status  *drydockv1.HostStatus
	Summary *drydockv1.StatusSummary
	Digest  string
}

const (
	// settle is how long it waits after a change for more: one run of apt makes many.
	settle = 3 * time.Second
	// retryRefresh is how long it waits after a refresh that could not be done at all, where that is less than Refresh.
	retryRefresh = 10 * time.Minute
)

// Latest is what was found last; nil until there is something.
func (f *Fresh) Latest() *Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.latest
}

// RefreshNow asks the sources for what is new, and returns what is then found.
func (f *Fresh) RefreshNow(ctx context.Context) (*Snapshot, error) {
	return f.keep(f.Collector.Refresh(ctx))
}

// LookNow looks at everything, without asking the sources.
func (f *Fresh) LookNow(ctx context.Context) (*Snapshot, error) {
	return f.keep(f.Collector.Collect(ctx))
}

func (f *Fresh) keep(status *drydockv1.HostStatus, err error) (*Snapshot, error) {
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Status: status, Summary: Summarize(status), Digest: Digest(status)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latest = s
	return s, nil
}

// Run keeps it fresh until ctx ends.
func (f *Fresh) Run(ctx context.Context) error {
	changes, stop := f.watch()
	defer stop()
	var refreshAt time.Time
	if f.Refresh > 0 {
		at, err := f.Refreshed()
		if err != nil {
			f.Log.Warn("when the package sources were asked last", "error", err)
		}
		refreshAt = at.Add(f.Refresh)
	}
	for {
		var err error
		if now := f.Collector.Now(); f.Refresh > 0 && !now.Before(refreshAt) {
			refreshAt = now.Add(f.Refresh)
			if _, err = f.RefreshNow(ctx); err != nil {
				refreshAt = now.Add(min(f.Refresh, retryRefresh))
				f.Log.Warn("ask the package sources for what is new", "error", err)
				_, err = f.keep(f.Collector.Collect(ctx))
			}
		} else {
			_, err = f.keep(f.Collector.Collect(ctx))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			f.Log.Warn("look at what this host lacks", "error", err)
		}
		if err := f.wait(ctx, changes, refreshAt); err != nil {
			return err
		}
	}
}

// wait ends when it is time to look again.
func (f *Fresh) wait(ctx context.Context, changes <-chan struct{}, refreshAt time.Time) error {
	every := f.Every
	if f.Refresh > 0 {
		every = min(every, max(refreshAt.Sub(f.Collector.Now()), settle))
	}
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case <-changes:
			timer.Reset(settle)
		}
	}
}

// watch sends on the channel when something changed that matters. A file is watched through its directory, so that it may come
// and go. What cannot be watched is looked at every now and then all the same.
func (f *Fresh) watch() (<-chan struct{}, func()) {
	changes := make(chan struct{}, 1)
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		f.Log.Warn("watch what changes a host's status", "error", err)
		return changes, func() {}
	}
	paths := []string{filepath.Join(f.Collector.Run, "reboot-required"), filepath.Join(f.Collector.Run, "reboot-required.pkgs")}
	if f.Collector.Packages != nil {
		paths = append(paths, f.Collector.Packages.Watched()...)
	}
	for i, path := range paths {
		paths[i] = filepath.Clean(path)
		_, _ = watcher.Add(paths[i]), watcher.Add(filepath.Dir(paths[i]))
	}
	go func() {
		for event := range watcher.Events {
			matters := slices.ContainsFunc(paths, func(path string) bool {
				return event.Name == path || strings.HasPrefix(event.Name, path+"/")
			})
			if matters && event.Op != fsnotify.Chmod {
				select {
				case changes <- struct{}{}:
				default:
				}
			}
		}
	}()
	go func() {
		for err := range watcher.Errors {
			f.Log.Warn("watch what changes a host's status", "error", err)
		}
	}()
	return changes, func() { _ = watcher.Close() }
}

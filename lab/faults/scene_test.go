//go:build faults

package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab/load"
	"drydock/lab/selfcheck"

	"connectrpc.com/connect"
)

// fault is one case.
type fault struct {
	name string
	mode drydockv1.MigrationMode
	// before prepares the case, before the migration begins. May be nil.
	before func(s *scene) error
	// points are where the migration is stopped, in order; at each of them the strike of the same index is carried out.
	points  []point
	strikes []func(s *scene) error
	// after is carried out when the migration has been let go on. May be nil.
	after func(s *scene) error
	// loses tells that the pod's only copy goes with its host, so that it is started anew.
	loses bool
	// mayLose: it depends on what had arrived whether the copy was lost.
	mayLose bool
	// unwatched: a container runs, and containerd does not know it. Such a pod serves, but cannot be moved away.
	unwatched bool
	// unshared: the pod has no shared volume.
	unshared bool
	// outcome is what the migration is to report, where that is told.
	outcome drydockv1.MigrationOutcome
	// ci: also run where there is little time.
	ci bool
}

// point is a place in the course of a migration, on its source or destination.
type point struct{ side, name string }

const (
	source      = "source"
	destination = "destination"
	controller  = "controller"
)

func at(name string) point {
	side, _, _ := strings.Cut(name, "-")
	return point{side, name}
}

// scene is one case being played.
type scene struct {
	*bench
	t                   *testing.T
	ctx                 context.Context
	source, destination string
	address             string
	writers             []*load.RedisWriters
	watch               *watch
	before              selfcheck.Generation
	unwatched           bool
	began               time.Time
	on                  string // the host where the pod runs in the end
	report              *drydockv1.MigrationReport
	reported            chan struct{}
	undo                []func() error
	// away is the leader that was taken away, if one is.
	away *absence
}

// connections that write to the pod while it is moved.
const connections = 3

func (b *bench) play(t *testing.T, c fault) {
	b.ready(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	s := &scene{bench: b, t: t, ctx: ctx, unwatched: c.unwatched}
	b.broken = true
	defer func() {
		s.undoAll()
		b.broken = t.Failed() || c.unwatched
		if t.Failed() {
			s.keepLogs()
		}
	}()
	if err := s.run(c); err != nil {
		t.Fatal(err)
	}
}

// undoAll takes back what the case has done to the lab, also where the case has used up its time.
func (s *scene) undoAll() {
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	defer cancel()
	s.ctx = ctx
	if s.watch != nil {
		s.watch.end()
	}
	for i := len(s.undo) - 1; i >= 0; i-- {
		if err := s.undo[i](); err != nil {
			s.t.Error(err)
		}
	}
}

func (s *scene) run(c fault) error {
	s.began = time.Now()
	if err := s.open(); err != nil {
		return err
	}
	if c.before != nil {
		if err := c.before(s); err != nil {
			return err
		}
	}
	if err := s.fit(); err != nil {
		return err
	}
	for _, p := range c.points {
		if err := os.WriteFile(s.faultFile(p), nil, 0o644); err != nil {
			return err
		}
	}
	moved := make(chan error, 1)
	s.reported = make(chan struct{})
	go func() {
		defer close(s.reported)
		report, err := s.Move(s.ctx, podName, s.destination, c.mode, nil)
		s.report = report
		moved <- err
	}()
	for i, p := range c.points {
		if err := s.strike(p, c.strikes[i], moved); err != nil {
			return err
		}
	}
	if c.after != nil {
		if err := c.after(s); err != nil {
			return err
		}
	}
	return s.verify(c)
}

// strike waits until a side stands at a point, lets the fault happen, and lets the side go on.
func (s *scene) strike(p point, fault func(*scene) error, moved <-chan error) error {
	reached := s.faultFile(p) + ".reached"
	ended, end := context.WithCancelCause(s.ctx)
	defer end(nil)
	err := until(ended, "point "+p.name, func() (bool, string) {
		select {
		case err := <-moved:
			if connect.CodeOf(err) == connect.CodeUnavailable {
				break // a controller that stops leading, and the migration goes on
			}
			end(errors.Join(errors.New("the migration ended before"), err))
		default:
		}
		_, err := os.Stat(reached)
		return err == nil, fmt.Sprint(err)
	})
	if err != nil {
		return err
	}
	if err := fault(s); err != nil {
		return fmt.Errorf("at %s: %w", p.name, err)
	}
	if err := os.Remove(reached); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *scene) faultFile(p point) string {
	return filepath.Join(s.FaultDir(s.host(p.side)), p.name)
}

// host is the name that a side has in the lab.
func (s *scene) host(side string) string {
	switch side {
	case source:
		return s.source
	case destination:
		return s.destination
	case controller:
		return "ctl"
	}
	return side
}

// open notes how things are, and starts the clients.
func (s *scene) open() error {
	for _, host := range s.Hosts() {
		if err := emptyDir(s.FaultDir(host)); err != nil {
			return err
		}
	}
	pod, err := s.pod(s.ctx)
	if err != nil {
		return err
	}
	s.source, s.destination = pod.Host, "h1"
	if s.source == "h1" {
		s.destination = "h2"
	}
	s.address, _, _ = strings.Cut(pod.Spec.Addresses[0], "/")
	if s.before, err = s.generation(s.source); err != nil {
		return err
	}
	for range connections {
		w, err := load.StartRedisWriters(s.ctx, load.RedisConfig{
			Dialer: load.Dialer{Netns: s.NetNS("client")}, Addr: s.address + ":6379", Connections: 1, Rate: 100,
		})
		if err != nil {
			return err
		}
		s.writers = append(s.writers, w)
	}
	s.watch, err = s.startWatch(s.ctx, s.address)
	return err
}

// keepLogs puts the hosts' logs where they outlive the lab.
func (s *scene) keepLogs() {
	dir := filepath.Join(os.TempDir(), "drydock-faults", strings.ReplaceAll(s.t.Name(), "/", "_"))
	_ = os.RemoveAll(dir)
	for _, host := range append(s.Hosts(), s.Controllers()...) {
		if err := os.CopyFS(filepath.Join(dir, host), os.DirFS(s.LogDir(host))); err != nil {
			s.t.Log(err)
		}
	}
	s.t.Logf("the hosts' logs are in %s", dir)
}

func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

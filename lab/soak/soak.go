// Package soak moves one pod back and forth, many times, while clients write to it, and finds out what that wears out: a
// connection, an acknowledged write, or anything that is left behind on a host.
package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab"
	"drydock/lab/census"
	"drydock/lab/images"
	"drydock/lab/load"
	"drydock/lab/rig"
)

// Config of a soak. Nothing has a default.
type Config struct {
	// Lab is the name of the lab. One of that name that exists is replaced.
	Lab string
	// Binary is the drydock program that the hosts run.
	Binary string
	// Dir is where soak.json goes, and the hosts' logs if something fails.
	Dir string
	// Moves that count. One there and one back is made before, so that what is made only once is there.
	Moves int
	// Modes are used in turn.
	Modes []drydockv1.MigrationMode
	// Connections that write at once.
	Connections int
	// Keep leaves the lab up at the end.
	Keep bool
	Out  io.Writer
}

// Report is what soak.json holds.
type Report struct {
	Moves             int            `json:"moves"`
	Modes             map[string]int `json:"modes"`
	ConnectionsBefore int            `json:"connections_before"`
	ConnectionsAfter  int            `json:"connections_after"`
	AckedWrites       int64          `json:"acked_writes"`
	AckedWritesLost   int64          `json:"acked_writes_lost"`
	Errors            int64          `json:"errors"`
	FirstError        string         `json:"first_error,omitempty"`
	Blackout          Spread         `json:"blackout_ms"`
	Freeze            Spread         `json:"freeze_ms"`
	Seconds           float64        `json:"seconds"`
	Memory            []Memory       `json:"memory"`
	// Leaks names everything that there was more of at the end.
	Leaks []string `json:"leaks"`
}

// Spread of a figure over all moves.
type Spread struct {
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
}

// settled is after how many moves the memory of the programs is taken as what they need.
const settled = 20

const pod = images.Redis

// hosts are the two that the pod moves between.
var hosts = [2]string{"h1", "h2"}

type soak struct {
	Config
	rig      *rig.Rig
	writers  *load.RedisWriters
	probe    *load.Probe
	report   Report
	blackout []float64
	freeze   []float64
	before   census.Census
	early    []Memory
}

// Run makes all moves. An error says what was lost, or what leaked.
func Run(ctx context.Context, cfg Config) error {
	results := filepath.Join(cfg.Dir, "soak.json")
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return err
	}
	if err := os.Remove(results); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s := &soak{Config: cfg, report: Report{Modes: make(map[string]int), Leaks: []string{}}}
	err := errors.Join(s.run(ctx), s.verdict())
	err = errors.Join(err, s.write(results))
	if s.rig == nil {
		return err
	}
	if err != nil {
		logs := filepath.Join(cfg.Dir, "soak-logs")
		err = errors.Join(err, s.rig.KeepLogs(logs))
		fmt.Fprintf(cfg.Out, "the logs of the hosts are in %s\n", logs)
	}
	if cfg.Keep {
		fmt.Fprintf(cfg.Out, "the lab is left up; `drydock lab down --name %s` removes it\n", cfg.Lab)
		return err
	}
	return errors.Join(err, s.rig.Down(context.WithoutCancel(ctx)))
}

func (s *soak) run(ctx context.Context) error {
	if err := s.up(ctx); err != nil {
		return err
	}
	if err := s.startClients(ctx); err != nil {
		return err
	}
	err := s.moveAll(ctx)
	return errors.Join(err, s.stopClients(context.WithoutCancel(ctx)), s.findLeaks(ctx))
}

func (s *soak) up(ctx context.Context) (err error) {
	s.rig, err = rig.Up(ctx, lab.Options{Name: s.Lab, Hosts: len(hosts), Binary: s.Binary, Progress: s.Out})
	if err != nil {
		return err
	}
	if err := s.rig.ImportImages(ctx, hosts[0], s.Out, pod); err != nil {
		return err
	}
	_, err = s.rig.Run(ctx, &drydockv1.PodSpec{
		Name: pod, RestartPolicy: drydockv1.RestartPolicy_RESTART_POLICY_NEVER, AllowPostcopy: true,
		Containers: []*drydockv1.Container{{Name: pod, Image: pod}},
	}, hosts[0])
	return err
}

// moveAll makes the moves that do not count, up to number 0, and those that do.
func (s *soak) moveAll(ctx context.Context) error {
	begun := time.Now()
	defer func() { s.report.Seconds = time.Since(begun).Seconds() }()
	for i := 1 - len(hosts); i <= s.Moves; i++ {
		if err := s.move(ctx, i); err != nil {
			return fmt.Errorf("move %d: %w", i, err)
		}
		var err error
		switch i {
		case 0:
			s.before, err = s.countAgain(ctx, nil)
		case min(settled, s.Moves):
			s.early, err = measure(s.rig)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *soak) move(ctx context.Context, i int) error {
	to, begun := hosts[(i+len(hosts))%len(hosts)], time.Now()
	report, err := s.rig.Move(ctx, pod, to, s.Modes[max(i, 0)%len(s.Modes)], nil)
	if err != nil || i <= 0 {
		return err
	}
	s.report.Moves++
	s.report.Modes[rig.ModeName(report.Mode)]++
	blackout := s.probe.Blackout(begun, time.Now())
	s.blackout, s.freeze = append(s.blackout, millis(blackout)), append(s.freeze, millis(report.Freeze.AsDuration()))
	_, err = fmt.Fprintf(s.Out, "move %3d of %d to %s: %s, %.1f s, freeze %.0f ms, blackout %.0f ms, %d writes acknowledged so far\n", i, s.Moves, to,
		rig.ModeName(report.Mode), time.Since(begun).Seconds(), millis(report.Freeze.AsDuration()), millis(blackout), s.writers.Acked())
	return err
}

// findLeaks compares what is there with what was there after the first move.
func (s *soak) findLeaks(ctx context.Context) error {
	if s.before == nil || s.early == nil {
		return nil
	}
	late, err := measure(s.rig)
	if err != nil {
		return err
	}
	s.report.Memory = compare(s.early, late)
	for _, m := range s.report.Memory {
		if grew := m.grew(); grew != "" {
			s.report.Leaks = append(s.report.Leaks, grew)
		}
	}
	after, err := s.countAgain(ctx, s.before)
	if err != nil {
		return err
	}
	s.report.Leaks = append(s.report.Leaks, s.before.More(after)...)
	return nil
}

// What is cleaned up after a move may take a moment, so a census is taken again until it no longer changes or, given an
// earlier one, there is no more than then.
const (
	censusPause = 2 * time.Second
	censusLimit = 30 * time.Second
)

func (s *soak) countAgain(ctx context.Context, before census.Census) (census.Census, error) {
	limit := time.Now().Add(censusLimit)
	last, err := census.Take(ctx, s.rig)
	for err == nil && time.Now().Before(limit) && ctx.Err() == nil {
		if before != nil && len(before.More(last)) == 0 {
			return last, nil
		}
		time.Sleep(censusPause)
		var next census.Census
		if next, err = census.Take(ctx, s.rig); err != nil {
			break
		}
		if before == nil && len(last.More(next)) == 0 && len(next.More(last)) == 0 {
			return next, nil
		}
		last = next
	}
	return last, err
}

func (s *soak) verdict() error {
	if len(s.blackout) > 0 {
		s.report.Blackout, s.report.Freeze = spread(s.blackout), spread(s.freeze)
	}
	r := s.report
	var errs []error
	if r.Moves != s.Moves {
		errs = append(errs, fmt.Errorf("%d of %d moves were made", r.Moves, s.Moves))
	}
	if lost := r.ConnectionsBefore - r.ConnectionsAfter; lost != 0 {
		errs = append(errs, fmt.Errorf("%d of %d connections were lost", lost, r.ConnectionsBefore))
	}
	if r.AckedWritesLost != 0 {
		errs = append(errs, fmt.Errorf("%d of %d acknowledged writes were lost", r.AckedWritesLost, r.AckedWrites))
	}
	if r.Errors != 0 {
		errs = append(errs, fmt.Errorf("%d errors, the first: %s", r.Errors, r.FirstError))
	}
	for _, leak := range r.Leaks {
		errs = append(errs, errors.New("leak: "+leak))
	}
	return errors.Join(errs...)
}

func (s *soak) write(path string) error {
	data, err := json.MarshalIndent(s.report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

func spread(figures []float64) Spread {
	sorted := slices.Sorted(slices.Values(figures))
	return Spread{Median: sorted[len(sorted)/2], Max: sorted[len(sorted)-1]}
}

// millis is a duration in milliseconds, to the tenth.
func millis(d time.Duration) float64 {
	return float64(d.Round(100*time.Microsecond)) / float64(time.Millisecond)
}

//go:build faults

package faults

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab/load"
	"drydock/lab/selfcheck"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// verify holds the pod to the promises.
func (s *scene) verify(c fault) error {
	pod, err := s.settled()
	if err != nil {
		return err
	}
	s.t.Logf("the pod runs on %s (it was on %s), epoch %d", pod.Host, s.source, pod.Epoch)
	s.on = pod.Host
	if c.mayLose {
		// A copy that was started anew says so before its first beat.
		if err := s.beats(); err != nil {
			return err
		}
		if c.loses, err = s.startedAnew(); err != nil {
			return err
		}
	}
	errs := []error{s.clients(c), s.copies(c), s.leftovers(pod.Host), s.told(c)}
	return errors.Join(errs...)
}

// told makes sure that the migration's report says what became of the pod, and that the loss of a pod is an event.
func (s *scene) told(c fault) error {
	if c.outcome == drydockv1.MigrationOutcome_MIGRATION_OUTCOME_UNSPECIFIED {
		return nil
	}
	select {
	case <-s.reported:
	case <-s.ctx.Done():
		return errors.New("the migration was never reported")
	}
	var errs []error
	if s.report.GetOutcome() != c.outcome || s.report.GetError() == "" {
		errs = append(errs, fmt.Errorf("the migration's report says %s: %q, want %s and the reason", s.report.GetOutcome(), s.report.GetError(), c.outcome))
	}
	verb := "pod hand back"
	if c.outcome == drydockv1.MigrationOutcome_MIGRATION_OUTCOME_LOST {
		verb = "pod lost"
	}
	stream, err := s.ListEvents(s.ctx, connect.NewRequest(&drydockv1.ListEventsRequest{Object: "pod " + podName, Since: timestamppb.New(s.began)}))
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer stream.Close()
	found := false
	for stream.Receive() {
		found = found || stream.Msg().GetEvent().GetVerb() == verb
	}
	if !found {
		errs = append(errs, fmt.Errorf("no event %q was recorded", verb))
	}
	return errors.Join(append(errs, stream.Err())...)
}

// beats waits until the copy that runs now has counted.
func (s *scene) beats() error {
	before, err := s.generation(s.on)
	if err != nil {
		return err
	}
	return until(s.ctx, "a beat of the pod", func() (bool, string) {
		now, err := s.generation(s.on)
		return err == nil && now.Counter > before.Counter, fmt.Sprintf("%d beats, %v", now.Counter, err)
	})
}

// settled waits until the controller says that the pod runs and is not moving.
func (s *scene) settled() (pod *drydockv1.Pod, err error) {
	err = until(s.ctx, "one running copy", func() (bool, string) {
		if pod, err = s.pod(s.ctx); err != nil {
			return false, err.Error()
		}
		seen := fmt.Sprintf("%s on %s, epoch %d, migration %q, %q", pod.Phase, pod.Host, pod.Epoch, pod.Migration, pod.Message)
		if pod.Phase != drydockv1.PodPhase_POD_PHASE_RUNNING || pod.Migration != "" {
			return false, seen
		}
		for _, c := range pod.Containers {
			if c.State != "running" && !(s.unwatched && c.State == "created") {
				return false, seen + ": " + c.Name + " is " + c.State
			}
		}
		return len(pod.Containers) == 2, seen
	})
	return pod, err
}

// clients wait until each of them is answered again, and look up what they wrote.
func (s *scene) clients(c fault) error {
	if c.loses {
		return s.newClient()
	}
	var errs []error
	for i, w := range s.writers {
		from := w.Acked()
		err := until(s.ctx, fmt.Sprintf("an answer on connection %d", i), func() (bool, string) {
			return w.Acked() > from+2, fmt.Sprintf("%d writes were acknowledged, none since the pod runs", from)
		})
		result, serr := w.Stop(s.ctx)
		if result.AckedWritesLost > 0 || result.ConnectionsAfter != 1 {
			err = errors.Join(err, fmt.Errorf("connection %d: %d of %d acknowledged writes lost, %d errors %v", i, result.AckedWritesLost, result.AckedWrites, result.Errors, result.FirstError))
		}
		errs = append(errs, err, serr)
	}
	return errors.Join(errs...)
}

// newClient is served by a pod that was started anew.
func (s *scene) newClient() error {
	for _, w := range s.writers {
		_, _ = w.Stop(s.ctx) // its connection is gone with the pod
	}
	return until(s.ctx, "a new connection", func() (bool, string) {
		w, err := load.StartRedisWriters(s.ctx, load.RedisConfig{
			Dialer: load.Dialer{Netns: s.NetNS("client")}, Addr: s.address + ":6379", Connections: 1, Rate: 100,
		})
		if err != nil {
			return false, err.Error()
		}
		result, err := w.Stop(s.ctx)
		return err == nil && result.ConnectionsAfter == 1, fmt.Sprint(result, err)
	})
}

// copies tells from inside the pod and from the network whether there ever were two.
func (s *scene) copies(c fault) error {
	now, err := s.generation(s.on)
	if err != nil {
		return err
	}
	var errs []error
	if now.Violations != s.before.Violations {
		errs = append(errs, fmt.Errorf("two copies ran: %d violations: %+v", now.Violations-s.before.Violations, now.Events[len(s.before.Events):]))
	}
	started, err := s.startedAnew()
	if err != nil {
		return err
	}
	if started && !c.loses {
		errs = append(errs, errors.New("the pod was started anew: its state was lost"))
	}
	if c.loses && !started {
		errs = append(errs, errors.New("the pod's only copy went with its host, but it was not started anew"))
	}
	from := now.Counter
	errs = append(errs, until(s.ctx, "a beat of the pod", func() (bool, string) {
		g, err := s.generation(s.on)
		return err == nil && g.Counter > from, fmt.Sprintf("%d beats: %v", from, err)
	}), s.watch.stop())
	return errors.Join(errs...)
}

// startedAnew tells whether the pod's program began again from nothing in this case.
func (s *scene) startedAnew() (bool, error) {
	now, err := s.generation(s.on)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(now.Events[len(s.before.Events):], func(e selfcheck.Event) bool { return e.What == "started" }), nil
}

// leftovers waits until both hosts hold what they held before, and names what is too much.
func (s *scene) leftovers(on string) error {
	var errs []error
	for _, host := range s.Hosts() {
		baseline := s.empty[host]
		if host == on {
			baseline = s.full[host]
		}
		errs = append(errs, until(s.ctx, "a clean host "+host, func() (bool, string) {
			now, err := s.inventory(s.ctx, host)
			if err != nil {
				return false, err.Error()
			}
			extra := now.minus(baseline)
			return len(extra) == 0, "left over:\n\t" + strings.Join(extra, "\n\t")
		}))
	}
	return errors.Join(errs...)
}

//go:build vm

package real

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"

	"connectrpc.com/connect"
)

// faultDir is where the agents of the machines look for the points at which they are to stop.
const faultDir = "/run/drydock-faults"

// roundsBreak kills either agent within the rounds of a pre-copy. The pod runs all the while. In the end there is one copy, on
// either host: a source whose agent is back begins the migration again. Nothing else of it stays anywhere.
func (s *scene) roundsBreak(t *testing.T) {
	for _, host := range s.Hosts() {
		s.in(t, host, "sh", "-c", "mkdir -p "+faultDir+" && echo fault-dir: "+faultDir+" >>/etc/drydock/agent.yaml && systemctl restart drydock-agent")
	}
	s.ready(t)
	for _, point := range []string{"source-in-round-1", "source-after-round-1", "source-in-round-2", "source-after-round-2"} {
		for _, side := range []string{"source", "destination"} {
			t.Run(fmt.Sprintf("at %s the %s's agent is killed", point, side), func(t *testing.T) {
				s.breakRound(t, point, side)
			})
		}
	}
	for _, to := range []string{"h2", "h1"} {
		if s.settled(t.Context(), t) == to {
			continue
		}
		report, err := s.Move(t.Context(), pod, to, drydockv1.MigrationMode_MIGRATION_MODE_PRECOPY, nil)
		if err != nil {
			t.Fatalf("after all that it does not move any more: %v", err)
		}
		t.Log(report.ModeReason)
	}
}

// settled waits until one copy of the pod runs and does not move, and says where.
func (s *scene) settled(ctx context.Context, t *testing.T) (host string) {
	t.Helper()
	s.await(ctx, t, "one copy", func() string {
		got, err := s.GetPod(ctx, connect.NewRequest(&drydockv1.GetPodRequest{Name: pod}))
		if err != nil {
			return err.Error()
		}
		p := got.Msg.Pod
		if p.Phase != drydockv1.PodPhase_POD_PHASE_RUNNING || p.Migration != "" {
			return fmt.Sprintf("%s on %s, migration %q: %s", p.Phase, p.Host, p.Migration, p.Message)
		}
		host = p.Host
		return ""
	})
	return host
}

// breakRound moves the pod with pre-copy, and kills the agent of one side when the source stands at a point.
func (s *scene) breakRound(t *testing.T, point, side string) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	s.ready(t)
	from, to := s.settled(ctx, t), "h1"
	if from == to {
		to = "h2"
	}
	victim := map[string]string{"source": from, "destination": to}[side]
	acked := s.writers.Acked()
	s.in(t, from, "touch", faultDir+"/"+point)
	moved := make(chan error, 1)
	go func() {
		_, err := s.Move(ctx, pod, to, drydockv1.MigrationMode_MIGRATION_MODE_PRECOPY, nil)
		moved <- err
	}()
	reached := faultDir + "/" + point + ".reached"
	s.await(ctx, t, "the source at "+point, func() string {
		select {
		case err := <-moved:
			moved <- err
			if code := connect.CodeOf(err); err == nil || code != connect.CodeUnavailable && code != connect.CodeCanceled {
				t.Fatalf("the migration ended before: %v", err)
			}
			// Only who listened has gone: the migration goes on.
		default:
		}
		return s.in(t, from, "sh", "-c", "[ -e "+reached+" ] || echo not there")
	})
	before := s.in(t, victim, "systemctl", "show", "-P", "MainPID", "drydock-agent")
	s.in(t, victim, "kill", "-9", before)
	s.in(t, from, "rm", reached)
	s.await(ctx, t, "another agent on "+victim, func() string {
		if pid := s.in(t, victim, "systemctl", "show", "-P", "MainPID", "drydock-agent"); pid == before || pid == "0" {
			return "process " + pid
		}
		return ""
	})
	<-moved // it says that it failed, or that its agent did
	on := s.settled(ctx, t)
	t.Logf("the pod runs on %s (it was on %s)", on, from)
	for _, host := range []string{from, to} {
		s.await(ctx, t, "nothing of the migration on "+host, func() string { return s.remains(t, host, host == on) })
	}
	s.await(ctx, t, "answers to writes", func() string {
		if s.writers.Acked() > acked+2 {
			return ""
		}
		return "none"
	})
}

// remains lists what a host has of a migration, and of the pod where that is not here.
func (s *scene) remains(t *testing.T, host string, here bool) string {
	look := "ls -d /run/drydock/agent/migrations/* 2>/dev/null; pgrep -a 'criu|runc'"
	if !here {
		look += "; ls -d /var/lib/drydock/agent/pods/* /var/lib/drydock/agent/volumes/* /var/lib/drydock/agent/journal/*.json 2>/dev/null" +
			"; ctr -n drydock tasks ls -q; ctr -n drydock containers ls -q; pgrep -a redis-server; ls -d /sys/fs/cgroup/drydock/pods/*/ 2>/dev/null"
	}
	lines := strings.Split(s.in(t, host, "sh", "-c", "{ "+look+"; } || true"), "\n")
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool { return line == "" }), "; ")
}

// await waits until missing is empty.
func (s *scene) await(ctx context.Context, t *testing.T, what string, missing func() string) {
	t.Helper()
	for {
		seen := missing()
		if seen == "" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s did not come about: %s", what, seen)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

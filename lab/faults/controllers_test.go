//go:build faults

package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/lab/rig"
)

// several is how many controllers a lab has of which one may die.
const several = 3

// TestControllers takes the controller that leads away while a pod moves. Another one has to lead, and the migration to end as if
// nothing had been.
func TestControllers(t *testing.T) {
	b := &bench{binary: buildDrydock(t), controllers: several}
	for _, c := range leaderFaults() {
		if *set == "ci" && !c.ci {
			continue
		}
		t.Run(c.name, func(t *testing.T) { b.play(t, c) })
	}
	t.Run("every controller answers, and says what it is", func(t *testing.T) {
		b.ready(t)
		s := &scene{bench: b, t: t, ctx: t.Context()}
		if err := s.everyController(); err != nil {
			t.Error(err)
		}
	})
	t.Run("no part of the store calls at one that there is not", func(t *testing.T) {
		for _, node := range b.Controllers() {
			log, err := os.ReadFile(filepath.Join(b.LogDir(node), "controller.log"))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(log), "streaming request; ID mismatch"); n > 0 {
				t.Errorf("%s was called %d times by a name that it does not have", node, n)
			}
		}
	})
}

// leaderFaults take the leader away at every point of a migration: its host crashes, or it is paused until the migration has ended
// without it.
func leaderFaults() []fault {
	var all []fault
	for _, p := range agentPoints() {
		all = append(all,
			fault{
				name: p + "/crash the leading controller's host", mode: stop, points: []point{at(p)}, ci: p == "source-before-freeze",
				strikes: []func(*scene) error{crashLeader}, after: goOnWithout,
			},
			fault{
				name: p + "/pause the leading controller", mode: stop, points: []point{at(p)}, ci: p == "destination-before-decide",
				strikes: []func(*scene) error{pauseLeader}, after: goOnWithout,
			})
	}
	return all
}

// absence is a leader that was taken away.
type absence struct {
	node  string
	since time.Time
	// back gives it back, as a controller that does not lead.
	back func() error
}

// crashLeader takes the power from the host of the controller that leads.
func crashLeader(s *scene) error {
	node, err := s.leader()
	if err != nil {
		return err
	}
	s.away = &absence{node: node, since: time.Now(), back: func() error { return s.StartHost(s.ctx, node) }}
	s.undo = append(s.undo, s.returned)
	return s.KillHost(s.ctx, node)
}

// pauseLeader stops the controller that leads, which is asked for something then: it believes that it leads when it wakes up.
func pauseLeader(s *scene) error {
	node, err := s.leader()
	if err != nil {
		return err
	}
	pid, err := s.ServicePID(node, "controller")
	if err != nil {
		return err
	}
	var answered chan error
	s.away = &absence{node: node, since: time.Now(), back: func() error {
		if err := unix.Kill(pid, unix.SIGCONT); err != nil {
			return err
		}
		return s.didNothing(node, <-answered)
	}}
	s.undo = append(s.undo, s.returned)
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		return err
	}
	answered = s.askForToken(node)
	return nil
}

// lateHost is what a paused controller is asked to make a token for.
const lateHost = "late"

func (s *scene) askForToken(node string) chan error {
	client, base := rig.ClientOf(s.Lab, node)
	answered := make(chan error, 1)
	go func() {
		defer client.CloseIdleConnections()
		_, err := drydockv1connect.NewControllerServiceClient(client, base).CreateJoinToken(s.ctx, connect.NewRequest(&drydockv1.CreateJoinTokenRequest{Host: lateHost}))
		answered <- err
	}()
	return answered
}

// didNothing looks up who has made the token, if it was made: never the one that was paused. That one says that it is deposed.
func (s *scene) didNothing(node string, answer error) error {
	s.t.Logf("%s, which was paused, answered what it was asked for meanwhile with: %v", node, answer)
	client, base := rig.ClientOf(s.Lab, node)
	defer client.CloseIdleConnections()
	stream, err := drydockv1connect.NewAccessServiceClient(client, base).ListEvents(s.ctx, connect.NewRequest(&drydockv1.ListEventsRequest{Object: "host " + lateHost}))
	if err != nil {
		return err
	}
	defer stream.Close()
	again, err := s.leadsSince(node, s.away.since)
	for stream.Receive() {
		e := stream.Msg().GetEvent()
		written := e.GetTime().AsTime()
		if e.GetOutcome() == "done" && e.GetController() == node && written.After(s.away.since) && (again.IsZero() || written.Before(again)) {
			err = errors.Join(err, fmt.Errorf("%s has written after it was deposed, and before it led again (%s): %v", node, again, e))
		}
	}
	return errors.Join(err, stream.Err(), until(s.ctx, "a word of "+node+" that it does not lead", func() (bool, string) {
		log, err := os.ReadFile(filepath.Join(s.LogDir(node), "controller.log"))
		return strings.Contains(string(log), "leadership lost"), fmt.Sprint(err)
	}))
}

// leadsSince is when a controller has begun to lead after a moment, by its log; zero where it has not. It may be elected again as soon
// as it wakes up.
func (s *scene) leadsSince(node string, moment time.Time) (time.Time, error) {
	log, err := os.ReadFile(filepath.Join(s.LogDir(node), "controller.log"))
	if err != nil {
		return time.Time{}, err
	}
	for line := range strings.Lines(string(log)) {
		stamp, rest, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
		if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil && at.After(moment) && strings.Contains(rest, "msg=leading ") {
			return at, nil
		}
	}
	return time.Time{}, nil
}

// returned gives the absent leader back, once, and waits until it follows the one that leads now.
func (s *scene) returned() error {
	if s.away == nil {
		return nil
	}
	node, back := s.away.node, s.away.back
	err := back()
	s.away = nil
	if err != nil {
		return fmt.Errorf("controller %s comes back: %w", node, err)
	}
	return until(s.ctx, node+" to follow", func() (bool, string) {
		states, err := rig.ControllerStates(s.ctx, s.Rig)
		return states[node] == rig.Standby, fmt.Sprint(states, err)
	})
}

// goOnWithout lets the operator ask at once, waits until another one leads and the pod is where it was to go, and gives the absent
// leader back.
func goOnWithout(s *scene) error {
	if err := s.typed("", "status"); err != nil {
		return err
	}
	if err := s.takenOver(); err != nil {
		return err
	}
	pod, err := s.settled()
	if err != nil {
		return err
	}
	if pod.Host != s.destination {
		return fmt.Errorf("the migration did not go on: the pod is on %s", pod.Host)
	}
	return errors.Join(s.everyController(), s.returned())
}

// leader waits until a controller leads.
func (s *scene) leader() (leader string, err error) {
	err = until(s.ctx, "a controller that leads", func() (bool, string) {
		ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
		defer cancel()
		states, err := rig.ControllerStates(ctx, s.Rig)
		for node, state := range states {
			if state == rig.Leads {
				leader = node
			}
		}
		return leader != "" && err == nil, fmt.Sprint(states, err)
	})
	return leader, err
}

// takenOver waits until another one leads than the one that is away, and prints how long that took.
func (s *scene) takenOver() error {
	return until(s.ctx, "another leader than "+s.away.node, func() (bool, string) {
		now, err := s.leader()
		if err == nil && now != s.away.node {
			s.t.Logf("takeover: %s leads, and answered %.1f s after %s was taken away", now, time.Since(s.away.since).Seconds(), s.away.node)
			return true, ""
		}
		return false, fmt.Sprint(now, err)
	})
}

// everyController asks each controller that is there, in place of the one that leads.
func (s *scene) everyController() error {
	leader, err := s.leader()
	if err != nil {
		return err
	}
	var errs []error
	for _, node := range s.Controllers() {
		if s.away != nil && node == s.away.node {
			continue
		}
		errs = append(errs, s.typed(node, "status"), s.typed(node, "controller", "ls"), s.measured(node, node == leader))
	}
	return errors.Join(errs...)
}

// typed types a command line, without a flag, or with one that names a single controller. It must show the hosts, or controllers.
func (s *scene) typed(node string, args ...string) error {
	if node != "" {
		args = append(args, "--server", "unix://"+s.SocketOf(node))
	}
	cmd := exec.CommandContext(s.ctx, s.binary, args...)
	cmd.Env = append(os.Environ(), s.Env()...)
	out, err := cmd.CombinedOutput()
	want := s.Controllers()
	if args[0] == "status" {
		want = s.Hosts()
	}
	for _, name := range want {
		if err == nil && !strings.Contains(string(out), name) {
			err = fmt.Errorf("%s is not shown", name)
		}
	}
	if err != nil {
		return fmt.Errorf("drydock %s: %w:\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// measured reads a controller's metrics: who leads says all, who does not says that.
func (s *scene) measured(node string, leads bool) error {
	client, base := rig.ClientOf(s.Lab, node)
	defer client.CloseIdleConnections()
	response, err := client.Get(base + "/metrics")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("metrics of %s: %s, %w", node, response.Status, err)
	}
	want, hosts := "drydock_leader 0", false
	if leads {
		want, hosts = "drydock_leader 1", true
	}
	if !strings.Contains(string(text), want) || strings.Contains(string(text), "drydock_hosts{") != hosts {
		return fmt.Errorf("metrics of %s have no %q, or wrong hosts:\n%s", node, want, text)
	}
	return nil
}

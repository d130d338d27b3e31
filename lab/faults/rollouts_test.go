//go:build faults

package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"drydock/lab"
	"drydock/lab/load"
	"drydock/lab/rig"

	drydockv1 "drydock/api/drydock/v1"

	"connectrpc.com/connect"
)

// rolloutFault is a rollout that is struck again and again, in the order in which it comes by. Each strike is a subtest.
type rolloutFault struct {
	name    string
	strikes []strike
	// controllers is how many there are; 0: one.
	controllers int
	// causes are played after the strikes, in the same lab.
	causes []cause
	// ci: also run where there is little time.
	ci bool
}

// strike is one thing that is done to a rollout.
type strike struct {
	name string
	// point is where the controller or an agent stands meanwhile; without one, do waits for its moment.
	point point
	do    func(*roll) error
}

// roll is one rollout being played.
type roll struct {
	*scene
	supply
	id       string
	resumed  int
	boots    map[string]string
	versions map[string]string // of packages before, by host and name
}

// rolloutSteps are the controller's, in their order: those before the rounds, of each round, and after them.
func rolloutSteps() []string {
	return append(append([]string{"start-hooks", "start-gates", "download"}, roundSteps()...), "end-gates", "end-hooks")
}

func roundSteps() []string {
	return []string{
		"admit", "occupy", "before-hooks", "cordon", "drain", "patch", "reboot", "verify", "return", "uncordon", "after-hooks", "soak", "gates",
	}
}

func TestRollouts(t *testing.T) {
	binary := buildDrydock(t)
	for _, c := range rolloutFaults() {
		if *set == "ci" && !c.ci {
			continue
		}
		t.Run(c.name, func(t *testing.T) { playRollout(t, &bench{binary: binary, controllers: c.controllers}, c) })
	}
}

// playRollout patches two hosts with a pod on each that clients write to.
func playRollout(t *testing.T, b *bench, c rolloutFault) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	r := &roll{scene: &scene{bench: b, t: t, ctx: ctx}}
	defer func() {
		r.undoAll()
		if t.Failed() && b.Rig != nil {
			r.keepLogs()
		}
	}()
	if err := r.begin(); err != nil {
		t.Fatal(err)
	}
	for i, s := range c.strikes {
		if !t.Run(s.name, func(t *testing.T) {
			if err := r.strikeRollout(s, c.strikes[i+1:]); err != nil {
				t.Error(err)
			}
		}) {
			return // what follows stands on it
		}
	}
	if len(c.strikes) > 0 {
		if err := r.verifyRollout(); err != nil {
			t.Error(err)
			return
		}
	}
	if len(c.causes) > 0 {
		r.playCauses(t, c.causes)
	}
}

// begin brings up a lab whose hosts lack updates, and starts to patch them as far as the first strike.
func (r *roll) begin() (err error) {
	r.Rig, err = rig.Up(r.ctx, lab.Options{
		Name: *name, Hosts: 2, Controllers: r.controllers, Binary: r.binary, FaultPoints: true, Updates: lab.Updates{Own: true},
	})
	if err != nil {
		return err
	}
	if err := r.ImportImages(r.ctx, "h1", os.Stderr, "redis", "workbench"); err != nil {
		return err
	}
	if err := os.MkdirAll(r.generationDir(), 0o777); err != nil {
		return err
	}
	if _, err := r.Run(r.ctx, podSpec(false), "h1"); err != nil {
		return err
	}
	if err := r.beats(); err != nil {
		return err
	}
	if err := r.open(); err != nil {
		return err
	}
	if err := r.second(); err != nil {
		return err
	}
	if r.boots, err = r.bootIDs(); err != nil {
		return err
	}
	if r.versions, err = r.installed(); err != nil {
		return err
	}
	return nil
}

const secondPod = "second"

// second runs another Redis on the other host, with a client.
func (r *roll) second() error {
	spec := &drydockv1.PodSpec{
		Name: secondPod, Containers: []*drydockv1.Container{{Name: "redis", Image: "redis"}}, RestartPolicy: drydockv1.RestartPolicy_RESTART_POLICY_NEVER,
	}
	if _, err := r.Run(r.ctx, spec, "h2"); err != nil {
		return err
	}
	return r.secondClient()
}

// secondClient writes to it.
func (r *roll) secondClient() error {
	res, err := r.GetPod(r.ctx, connect.NewRequest(&drydockv1.GetPodRequest{Name: secondPod}))
	if err != nil {
		return err
	}
	address, _, _ := strings.Cut(res.Msg.Pod.Spec.Addresses[0], "/")
	return until(r.ctx, "a connection to the second pod", func() (bool, string) {
		w, err := load.StartRedisWriters(r.ctx, load.RedisConfig{
			Dialer: load.Dialer{Netns: r.NetNS("client")}, Addr: address + ":6379", Connections: 1, Rate: 100,
		})
		if err == nil {
			r.writers = append(r.writers, w)
		}
		return err == nil, fmt.Sprint(err)
	})
}

// start begins the rollout, once its first points are set.
func (r *roll) start() error {
	return until(r.ctx, "a rollout", func() (bool, string) {
		res, err := r.StartRollout(r.ctx, connect.NewRequest(&drydockv1.StartRolloutRequest{Pool: lab.Pool}))
		if err != nil {
			return false, err.Error()
		}
		r.id = res.Msg.GetRollout().GetId()
		return r.id != "", fmt.Sprint(res.Msg.GetPlan().GetBlockers())
	})
}

// strikeRollout waits until the rollout has come to the point, strikes, and lets it go on. What comes next is set before that,
// so that the rollout does not slip past: with several controllers another one may have taken it up by then.
func (r *roll) strikeRollout(s strike, next []strike) error {
	if r.id == "" {
		if err := errors.Join(r.set(s), r.start()); err != nil {
			return err
		}
	}
	reached := r.faultFile(s.point) + ".reached"
	if s.point.name != "" {
		err := r.untilRollout("point "+s.point.name, func(*drydockv1.Rollout) bool {
			_, err := os.Stat(reached)
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	if len(next) > 0 {
		if err := r.set(next[0]); err != nil {
			return err
		}
	}
	if err := s.do(r); err != nil {
		return err
	}
	if err := os.Remove(reached); s.point.name != "" && err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (r *roll) set(s strike) error {
	if s.point.name == "" {
		return nil
	}
	return os.WriteFile(r.faultFile(s.point), nil, 0o644)
}

// rolloutLimit is no promise about speed: a step may wait for a killed controller, and a host for its boot.
const rolloutLimit = 4 * time.Minute

// untilRollout waits for something to come about while the rollout goes on. One that stops must say why and what to do, and
// goes on once it is told to.
func (r *roll) untilRollout(what string, ready func(*drydockv1.Rollout) bool) error {
	ctx, cancel := context.WithTimeout(r.ctx, rolloutLimit)
	defer cancel()
	var last *drydockv1.Rollout
	for {
		now, err := r.now(ctx)
		if err == nil {
			last = now
			if err := r.goOnIfStopped(now); err != nil {
				return err
			}
		}
		if ready(last) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not come about; the rollout was %s at %s, %s: %v", what, last.GetState(), last.GetStep(), last.GetReason(), err)
		case <-time.After(lookAgain):
		}
	}
}

func (r *roll) now(ctx context.Context) (*drydockv1.Rollout, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	res, err := r.GetRollout(ctx, connect.NewRequest(&drydockv1.GetRolloutRequest{Id: r.id}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Rollout, nil
}

// mostResumes is how often an operator goes by what a rollout says before it counts as one that does not end.
const mostResumes = 3

func (r *roll) goOnIfStopped(now *drydockv1.Rollout) error {
	if now.State != drydockv1.RolloutState_ROLLOUT_STATE_STOPPED {
		return nil
	}
	r.t.Logf("the rollout stopped at %s: %s: %v", now.Step, now.Reason, now.Problems)
	if len(now.Problems) == 0 {
		return fmt.Errorf("the rollout stopped at %s and does not explain why: %s", now.Step, now.Reason)
	}
	for _, p := range now.Problems {
		if p.Reason == "" || p.Remedy == "" {
			return fmt.Errorf("the rollout stopped at %s and explains it with %v", now.Step, p)
		}
	}
	if r.resumed++; r.resumed > mostResumes {
		return fmt.Errorf("the rollout stopped %d times; at last at %s: %s", r.resumed, now.Step, now.Reason)
	}
	if err := r.agentsUp(); err != nil {
		return err
	}
	_, err := r.ResumeRollout(r.ctx, connect.NewRequest(&drydockv1.ResumeRolloutRequest{Id: r.id}))
	if connect.CodeOf(err) == connect.CodeUnavailable {
		return nil // asked again
	}
	return err
}

// agentsUp waits until every agent answers: whoever tells a rollout to go on has done what it says, and nothing more.
func (r *roll) agentsUp() error {
	return until(r.ctx, "agents that answer", func() (bool, string) {
		var err error
		for _, host := range r.Hosts() {
			err = errors.Join(err, r.InNetNS(lab.ControllerNode, func() error {
				c, err := net.DialTimeout("tcp", r.Address(host)+":7444", time.Second)
				if err == nil {
					c.Close()
				}
				return err
			}))
		}
		return err == nil, fmt.Sprint(err)
	})
}

// patchedHost is the one that the rollout is at, or will be at first.
func (r *roll) patchedHost() (host string, err error) {
	err = until(r.ctx, "a host that is being patched", func() (bool, string) {
		now, err := r.now(r.ctx)
		if err != nil {
			return false, err.Error()
		}
		host = "h1"
		for _, h := range now.Hosts {
			if h.State == drydockv1.RolloutHostState_ROLLOUT_HOST_STATE_RUNNING {
				host = h.Host
			}
		}
		return true, ""
	})
	return host, err
}

//go:build faults

package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
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
	id       string
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
		t.Run(c.name, func(t *testing.T) { playRollout(t, &bench{binary: binary}, c) })
	}
}

// playRollout patches two hosts with a pod on each that clients write to.
func playRollout(t *testing.T, b *bench, c rolloutFault) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
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
	if err := r.verifyRollout(); err != nil {
		t.Error(err)
	}
}

// begin brings up a lab whose hosts lack updates, and starts to patch them as far as the first strike.
func (r *roll) begin() (err error) {
	r.Rig, err = rig.Up(r.ctx, lab.Options{Name: *name, Hosts: 2, Binary: r.binary, FaultPoints: true, Updates: lab.Updates{Own: true}})
	if err != nil {
		return err
	}
	if err := r.ImportImages(r.ctx, "h1", os.Stderr, "redis", "workbench"); err != nil {
		return err
	}
	if err := os.MkdirAll(r.generationDir(), 0o777); err != nil {
		return err
	}
	if _, err := r.Run(r.ctx, podSpec(), "h1"); err != nil {
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

// second runs another Redis on the other host, with a client.
func (r *roll) second() error {
	spec := &drydockv1.PodSpec{
		Name: "second", Containers: []*drydockv1.Container{{Name: "redis", Image: "redis"}}, RestartPolicy: drydockv1.RestartPolicy_RESTART_POLICY_NEVER,
	}
	pod, err := r.Run(r.ctx, spec, "h2")
	if err != nil {
		return err
	}
	address, _, _ := strings.Cut(pod.Spec.Addresses[0], "/")
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
// so that the rollout does not slip past.
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
	if err := s.do(r); err != nil {
		return err
	}
	if len(next) > 0 {
		if err := r.set(next[0]); err != nil {
			return err
		}
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
	_, err := r.ResumeRollout(r.ctx, connect.NewRequest(&drydockv1.ResumeRolloutRequest{Id: r.id}))
	if connect.CodeOf(err) == connect.CodeUnavailable {
		return nil // asked again
	}
	return err
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

// bootIDs are the boots that hosts are in, as the lab knows them.
func (r *roll) bootIDs() (map[string]string, error) {
	status, err := r.Status()
	boots := map[string]string{}
	for _, h := range status.Hosts {
		boots[h.Name] = h.BootID
	}
	return boots, err
}

// installed asks every host's dpkg.
func (r *roll) installed() (map[string]string, error) {
	all := map[string]string{}
	for _, host := range r.Hosts() {
		out, err := r.Exec(r.ctx, host, "dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n").Output()
		if err != nil {
			return nil, fmt.Errorf("ask dpkg on %s: %w", host, err)
		}
		for line := range strings.Lines(string(out)) {
			if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "installed" {
				all[host+" "+fields[1]] = fields[2]
			}
		}
	}
	return all, nil
}

// verifyRollout holds the rollout to the promises, once it has ended.
func (r *roll) verifyRollout() error {
	var last *drydockv1.Rollout
	err := r.untilRollout("the end of the rollout", func(now *drydockv1.Rollout) bool {
		last = now
		return now.GetState() == drydockv1.RolloutState_ROLLOUT_STATE_FINISHED
	})
	if err != nil {
		return err
	}
	pod, err := r.settled()
	if err != nil {
		return err
	}
	r.t.Logf("the pod runs on %s, epoch %d; %d moves", pod.Host, pod.Epoch, len(last.Moves))
	return errors.Join(r.hostsPatched(last), stepsTaken(last), r.clients(fault{}), r.copies(fault{}))
}

// hostsPatched compares what every host was to be given with what its dpkg has, and looks for the boot that followed.
func (r *roll) hostsPatched(last *drydockv1.Rollout) error {
	after, err := r.installed()
	if err != nil {
		return err
	}
	boots, err := r.bootIDs()
	if err != nil {
		return err
	}
	var errs []error
	if len(last.Hosts) != len(r.Hosts()) {
		errs = append(errs, fmt.Errorf("%d hosts were patched", len(last.Hosts)))
	}
	for _, h := range last.Hosts {
		if len(h.GetPatch().GetPackages()) == 0 {
			errs = append(errs, fmt.Errorf("%s was given nothing", h.Host))
		}
		for _, pin := range h.GetPatch().GetPackages() {
			if got := after[h.Host+" "+pin.Name]; got != pin.To || got == r.versions[h.Host+" "+pin.Name] {
				errs = append(errs, fmt.Errorf("%s: %s was pinned to %s, and dpkg has %s", h.Host, pin.Name, pin.To, got))
			}
		}
		if h.RebootKind != "simulated" || boots[h.Host] == r.boots[h.Host] {
			errs = append(errs, fmt.Errorf("%s: reboot %q, boot before %s, now %s", h.Host, h.RebootKind, r.boots[h.Host], boots[h.Host]))
		}
	}
	return errors.Join(errs...)
}

// stepsTaken compares the steps that the rollout has journalled with those that are struck here.
func stepsTaken(last *drydockv1.Rollout) error {
	var taken []string
	for _, s := range last.Steps {
		taken = append(taken, s.Name)
	}
	for _, h := range last.Hosts {
		for _, s := range h.Steps {
			taken = append(taken, s.Name)
		}
	}
	slices.Sort(taken)
	taken, want := slices.Compact(taken), rolloutSteps()
	if slices.Sort(want); !slices.Equal(taken, want) {
		return fmt.Errorf("the rollout's steps are %v, and %v are struck", taken, want)
	}
	return nil
}

//go:build faults

package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"drydock/lab"
	"drydock/lab/repository"

	drydockv1 "drydock/api/drydock/v1"

	"connectrpc.com/connect"
)

// cause is something that stops a rollout. It is played with a rollout of its own, for which hosts lack something anew: it stops as
// the policy says, says what to do, and goes on once that was done. Operators type what is typed, and apt is the real one.
type cause struct {
	name string
	play func(*roll)
}

// supply is where hosts find what they lack.
type supply struct {
	archive repository.Archive
	// base is the package file that newer builds are made from.
	base   string
	builds int
	pools  int
}

// offered is the package that hosts lack newer builds of.
const offered = "iputils-ping"

// playCauses plays one after the other, in one lab.
func (r *roll) playCauses(t *testing.T, causes []cause) {
	if err := errors.Join(r.clientsAgain(), r.stock()); err != nil {
		t.Error(err)
		return
	}
	for _, c := range causes {
		all := r.t
		ok := t.Run(c.name, func(t *testing.T) {
			r.t = t
			c.play(r)
		})
		if r.t = all; !ok {
			return // what follows stands on it
		}
	}
	if err := errors.Join(r.clients(fault{}), r.copies(fault{})); err != nil {
		t.Error(err)
	}
}

// must ends the case where something went wrong.
func (r *roll) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// clientsAgain starts clients where those of the strikes have ended.
func (r *roll) clientsAgain() error {
	if r.id == "" {
		return nil
	}
	r.writers = nil
	return errors.Join(r.open(), r.secondClient())
}

// stock takes over the lab's own archive.
func (r *roll) stock() (err error) {
	if r.archive, err = r.Rekey(r.Hosts()...); err != nil {
		return err
	}
	files, err := os.ReadDir(r.archive.Pool())
	if err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(r.archive.Pool(), f.Name())
		switch {
		case !strings.HasPrefix(f.Name(), offered+"_"):
			err = errors.Join(err, os.Remove(path))
		case !strings.Contains(f.Name(), "+drydock"):
			r.base = path
		}
	}
	if r.base == "" {
		err = errors.Join(err, fmt.Errorf("the lab's archive has no %s", offered))
	}
	r.builds = 1 // the lab has one newer build
	return err
}

// offer publishes a newer build than any that hosts have, changed by edit where there is one.
func (r *roll) offer(edit func(tree string) error) error {
	r.builds++
	if _, err := repository.Rebuild(r.ctx, r.base, r.archive.Pool(), fmt.Sprintf("+drydock%d", r.builds), edit); err != nil {
		return err
	}
	return r.publish()
}

// publish has the archive say that it was made now, and later than before.
func (r *roll) publish() error {
	r.archive.Date = r.archive.Date.Add(time.Second)
	if now := time.Now().UTC().Truncate(time.Second); now.After(r.archive.Date) {
		r.archive.Date = now
	}
	return r.archive.Publish(r.ctx)
}

// pool puts a pool of all hosts in force, and none besides.
func (r *roll) pool(policy string) (name string) {
	r.t.Helper()
	r.pools++
	name = fmt.Sprintf("stops-%d", r.pools)
	text := fmt.Sprintf("name: %s\nhosts: {names: [%s]}\npods: {modes: [stop], downtime-budget: 1m}\nsoak: {host: 0s}\nat-once: {canaries: 0}\n%s",
		name, strings.Join(r.Hosts(), ", "), policy)
	dir := filepath.Join(r.ConfigDir(lab.ControllerNode), "pools")
	file := filepath.Join(dir, name+".yaml")
	r.must(errors.Join(emptyDir(dir), os.WriteFile(file+".new", []byte(text), 0o644), os.Rename(file+".new", file)))
	r.must(until(r.ctx, "pool "+name, func() (bool, string) {
		res, err := r.ListPools(r.ctx, connect.NewRequest(&drydockv1.ListPoolsRequest{}))
		if err != nil {
			return false, err.Error()
		}
		return len(res.Msg.Faults) == 0 && len(res.Msg.Pools) == 1 && res.Msg.Pools[0].Name == name, fmt.Sprint(res.Msg)
	}))
	return name
}

// typed is what a command of the program says, and the status that it ends with.
func (r *roll) typed(args ...string) (said string, status int, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, rolloutLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.binary, args...)
	cmd.Env = append(os.Environ(), r.Env()...)
	out, err := cmd.CombinedOutput()
	if exited := new(exec.ExitError); errors.As(err, &exited) && ctx.Err() == nil {
		err = nil
	}
	return string(out), cmd.ProcessState.ExitCode(), err
}

var begun = regexp.MustCompile(`rollout (\S+) of pool`)

// patch types `drydock patch`.
func (r *roll) patch(pool string) error {
	said, status, err := r.typed("patch", pool, "--detach")
	if err != nil {
		return err
	}
	id := begun.FindStringSubmatch(said)
	if status != 0 || id == nil {
		return fmt.Errorf("drydock patch %s ends with status %d: %s", pool, status, said)
	}
	r.id, r.resumed = id[1], 0
	return nil
}

// statusRefused is that of a command that was refused: docs/cli.md.
const statusRefused = 3

// refused types `drydock patch`, which must be refused for these reasons. Nothing was done.
func (r *roll) refused(pool string, want ...string) error {
	said, status, err := r.typed("patch", pool, "--detach")
	if err != nil {
		return err
	}
	if status != statusRefused {
		err = fmt.Errorf("status %d", status)
	}
	for _, w := range append(want, "remedy: ") {
		if !strings.Contains(said, w) {
			err = errors.Join(err, fmt.Errorf("no word of %q", w))
		}
	}
	if err != nil {
		return fmt.Errorf("drydock patch %s: %w; it says:\n%s", pool, err, said)
	}
	r.t.Logf("refused: %s", strings.TrimSpace(said))
	known, err := r.ListHosts(r.ctx, connect.NewRequest(&drydockv1.ListHostsRequest{}))
	if err != nil {
		return err
	}
	for _, h := range known.Msg.Hosts {
		if h.State != "ready" {
			err = errors.Join(err, fmt.Errorf("host %s is %s: %s", h.Name, h.State, h.Message))
		}
	}
	return errors.Join(err, r.served())
}

// stops waits until the rollout has stopped by itself, and looks at what an operator is told: every reason with its remedy, these
// words among them, and how to go on. As many hosts are patched, and no other is touched; pods run, and clients are answered.
func (r *roll) stops(patched int, want ...string) error {
	var now *drydockv1.Rollout
	err := r.await("its stop", func(is *drydockv1.Rollout) bool {
		now = is
		return is.State == drydockv1.RolloutState_ROLLOUT_STATE_STOPPED
	})
	if err != nil {
		return err
	}
	said, status, err := r.typed("rollout", "show", r.id)
	if err != nil {
		return err
	}
	if status != 0 || len(now.Problems) == 0 {
		err = fmt.Errorf("status %d, %d problems", status, len(now.Problems))
	}
	for _, w := range append(want, "remedy: ", "drydock rollout resume "+r.id) {
		if !strings.Contains(said, w) {
			err = errors.Join(err, fmt.Errorf("no word of %q", w))
		}
	}
	if int(now.HostsPatched) != patched {
		err = errors.Join(err, fmt.Errorf("%d hosts are patched, not %d", now.HostsPatched, patched))
	}
	for _, h := range now.Hosts {
		if h.State == drydockv1.RolloutHostState_ROLLOUT_HOST_STATE_RUNNING {
			err = errors.Join(err, fmt.Errorf("host %s is still being patched", h.Host))
		}
	}
	if err != nil {
		return fmt.Errorf("rollout %s stopped: %w; it says:\n%s", r.id, err, said)
	}
	r.t.Logf("stopped: %s", said[strings.Index(said, "Problems"):])
	return r.served()
}

// await waits for something to come about in a rollout that nobody helps.
func (r *roll) await(what string, ready func(*drydockv1.Rollout) bool) error {
	ctx, cancel := context.WithTimeout(r.ctx, rolloutLimit)
	defer cancel()
	var seen string
	for {
		now, err := r.now(ctx)
		if err == nil {
			if ready(now) {
				return nil
			}
			seen = fmt.Sprintf("%s at %s: %s: %v", now.State, now.Step, now.Reason, now.Problems)
			if now.Ended != nil || now.State == drydockv1.RolloutState_ROLLOUT_STATE_STOPPED {
				return fmt.Errorf("%s did not come about: rollout %s is %s", what, r.id, seen)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not come about: rollout %s was %s: %v", what, r.id, seen, err)
		case <-time.After(lookAgain):
		}
	}
}

// goesOn types `drydock rollout resume`, and the rollout must come to its end.
func (r *roll) goesOn() error {
	said, status, err := r.typed("rollout", "resume", r.id)
	if err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("drydock rollout resume ends with status %d: %s", status, said)
	}
	return r.finishes(r.Hosts()...)
}

// finishes waits for the rollout's end, and asks dpkg on every host for what was pinned there.
func (r *roll) finishes(hosts ...string) error {
	var last *drydockv1.Rollout
	err := r.await("its end", func(now *drydockv1.Rollout) bool {
		last = now
		return now.State == drydockv1.RolloutState_ROLLOUT_STATE_FINISHED
	})
	if err != nil {
		return err
	}
	has, err := r.installed()
	if err != nil {
		return err
	}
	var patched []string
	for _, h := range last.Hosts {
		if h.State == drydockv1.RolloutHostState_ROLLOUT_HOST_STATE_PATCHED {
			patched = append(patched, h.Host)
		}
		for _, pin := range h.GetPatch().GetPackages() {
			if got := has[h.Host+" "+pin.Name]; got != pin.To {
				err = errors.Join(err, fmt.Errorf("%s: %s was pinned to %s, and dpkg has %q", h.Host, pin.Name, pin.To, got))
			}
		}
	}
	if slices.Sort(patched); !slices.Equal(patched, hosts) {
		err = errors.Join(err, fmt.Errorf("patched are %v, not %v", patched, hosts))
	}
	return errors.Join(err, r.served())
}

// served waits until both pods run and every client was answered since.
func (r *roll) served() error {
	if _, err := r.settled(); err != nil {
		return err
	}
	err := until(r.ctx, "the second pod", func() (bool, string) {
		res, err := r.GetPod(r.ctx, connect.NewRequest(&drydockv1.GetPodRequest{Name: secondPod}))
		if err != nil {
			return false, err.Error()
		}
		return res.Msg.Pod.Phase == drydockv1.PodPhase_POD_PHASE_RUNNING, fmt.Sprint(res.Msg.Pod.Phase, res.Msg.Pod.Message)
	})
	for i, w := range r.writers {
		from := w.Acked()
		err = errors.Join(err, until(r.ctx, fmt.Sprintf("an answer on connection %d", i), func() (bool, string) {
			return w.Acked() > from+2, fmt.Sprintf("%d writes were acknowledged", w.Acked())
		}))
	}
	return err
}

// at types `drydock patch`, waits until the rollout stands where a step begins, lets something happen, and has it go on.
func (r *roll) at(step, pool string, happen func() error) error {
	p := point{controller, "rollout-begins-" + step}
	if err := errors.Join(os.WriteFile(r.faultFile(p), nil, 0o644), r.patch(pool)); err != nil {
		return err
	}
	reached := r.faultFile(p) + ".reached"
	err := r.await("the beginning of "+step, func(*drydockv1.Rollout) bool {
		_, err := os.Stat(reached)
		return err == nil
	})
	if err != nil {
		return err
	}
	return errors.Join(happen(), os.Remove(reached))
}

// onHosts runs a command on hosts.
func (r *roll) onHosts(hosts []string, argv ...string) error {
	for _, host := range hosts {
		if out, err := r.Exec(r.ctx, host, argv...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v on %s: %w: %s", argv, host, err, out)
		}
	}
	return nil
}

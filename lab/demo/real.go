package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab"
	"drydock/lab/images"
	"drydock/lab/selfcheck"
)

// crossing is one run of the demo on virtual machines.
type crossing struct {
	patching
	clocks *clockWatch
	before map[string]guest
	report RealReport
}

// guest is what a machine says of itself.
type guest struct{ kernel, boot string }

// realHosts are two: while one is patched, the other has all pods.
const realHosts = 2

// RunReal shows what Drydock exists for with kernels of their own: virtual machines that lack a newer kernel are patched with
// `drydock patch` while Redis, PostgreSQL and a Go service on them are in use. Each machine is really rebooted. It passes only if
// every machine runs the new kernel in a new boot, and no client lost anything.
func RunReal(ctx context.Context, cfg Config) error {
	results := filepath.Join(cfg.Dir, "demo-real.json")
	if err := errors.Join(os.MkdirAll(cfg.Dir, 0o755), removeIfThere(results)); err != nil {
		return err
	}
	c := &crossing{patching: patching{Config: cfg, scene: scene{view: newView(cfg.Out)}}}
	began := time.Now()
	err := errors.Join(c.run(ctx), c.endUsers())
	c.view.close()
	c.report.Duration = time.Since(began).Round(100 * time.Millisecond).Seconds()
	err = errors.Join(err, c.report.write(results), c.report.show(cfg.Out), c.verdict())
	return c.finish(ctx, cfg.Out, filepath.Join(cfg.Dir, "demo-real-logs"), cfg.Keep, err)
}

func (c *crossing) run(ctx context.Context) error {
	steps := []func(context.Context) error{c.up, c.startPods, c.startClients, c.lookBefore, c.patchAll, c.lookAfter, c.endClients}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *crossing) up(ctx context.Context) error {
	return c.bringUp(ctx, lab.Options{
		Name: c.Lab, Hosts: realHosts, Driver: lab.DriverVM, Binary: c.Binary, Updates: lab.Updates{Mirror: true},
	}, images.Redis, images.Postgres, images.Workbench)
}

// realApps are used as gently as emulated processors need.
func realApps() []app {
	var all []app
	for _, a := range apps() {
		switch a.name {
		case images.Redis:
			a.use = useRedisGently
		case images.Postgres:
			a.use = usePostgresGently
		case images.Workbench:
			// Machines share no directory, in which two copies could be found out.
			a.shows, a.args, a.volume, a.use = "a Go service", []string{"--listen", fmt.Sprint(":", selfcheck.Port)}, nil, useService
		default:
			continue
		}
		all = append(all, a)
	}
	return all
}

func (c *crossing) startPods(ctx context.Context) error {
	for i, a := range realApps() {
		if err := c.startPod(ctx, a, route[i%realHosts]); err != nil {
			return err
		}
	}
	return nil
}

// lookBefore waits until every machine knows that it lacks a kernel, and notes what it runs.
func (c *crossing) lookBefore(ctx context.Context) (err error) {
	c.view.say("waiting until the hosts know what they lack")
	if err := c.awaitStatus(ctx, func(s *drydockv1.StatusSummary) bool { return s.GetSecurityUpdates() > 0 }); err != nil {
		return err
	}
	if err := c.drydock(ctx, "status"); err != nil {
		return err
	}
	if c.versions, err = c.installed(ctx); err != nil {
		return err
	}
	c.before, err = c.guests(ctx)
	return err
}

// guests asks every machine what it runs.
func (c *crossing) guests(ctx context.Context) (map[string]guest, error) {
	all := map[string]guest{}
	for _, host := range c.rig.Hosts() {
		out, err := c.rig.Exec(ctx, host, "cat", "/proc/sys/kernel/osrelease", "/proc/sys/kernel/random/boot_id").Output()
		words := strings.Fields(string(out))
		if err != nil || len(words) != 2 {
			return nil, fmt.Errorf("ask %s for its kernel and boot: %q: %w", host, out, err)
		}
		all[host] = guest{words[0], words[1]}
	}
	return all, nil
}

// patchAll has the whole pool patched while the pods' clocks are watched.
func (c *crossing) patchAll(ctx context.Context) error {
	c.clocks = watchClocks(ctx, c.rig)
	err := c.patch(ctx)
	c.clocks.stop()
	return err
}

// lookAfter takes down what became of machines and pods: kernels and boots are what the machines say, versions what dpkg says.
func (c *crossing) lookAfter(ctx context.Context) error {
	if err := c.bookMoves(ctx); err != nil {
		return err
	}
	if err := c.drydock(ctx, "status"); err != nil {
		return err
	}
	after, err := c.guests(ctx)
	if err != nil {
		return err
	}
	versions, err := c.installed(ctx)
	if err != nil {
		return err
	}
	for _, h := range c.rollout.Hosts {
		was, is := c.before[h.Host], after[h.Host]
		row := RealHost{Name: h.Host, KernelBefore: was.kernel, KernelAfter: is.kernel, BootBefore: was.boot, BootAfter: is.boot}
		for _, pin := range h.GetPatch().GetPackages() {
			if row.Packages++; versions[h.Host][pin.Name] != pin.To {
				c.fault("%s: %s was pinned to %s, and dpkg has %q", h.Host, pin.Name, pin.To, versions[h.Host][pin.Name])
			}
		}
		c.report.Hosts = append(c.report.Hosts, row)
	}
	return nil
}

func (c *crossing) endClients(ctx context.Context) error {
	return c.stopClients(ctx, func(t *traveller, found findings) {
		c.report.Pods = append(c.report.Pods, RealPod{
			Name: t.app.name, Moves: len(c.movesOf(t.app.name)), ConnectionsBefore: found.ConnectionsBefore,
			ConnectionsLost: found.ConnectionsBefore - found.ConnectionsAfter, AckedWrites: found.AckedWrites, WritesLost: found.AckedWritesLost,
			FailedTransactions: found.failedTransactions, ClockStepsBack: c.clocks.stepsBack(t.app.name) + found.clockStepsBack,
			Blackout: c.longestBlackout(t.app.name),
		})
	})
}

func (c *crossing) movesOf(pod string) []PatchMove {
	return slices.DeleteFunc(slices.Clone(c.patching.report.Moves), func(m PatchMove) bool { return m.Pod != pod })
}

func (c *crossing) longestBlackout(pod string) float64 {
	longest := 0.0
	for _, m := range c.movesOf(pod) {
		longest = max(longest, m.Blackout)
	}
	return longest
}

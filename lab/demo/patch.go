package demo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab"
	"drydock/lab/images"

	"connectrpc.com/connect"
)

// patching is one run of the demo of patches.
type patching struct {
	Config
	scene
	versions map[string]map[string]string // of the packages on each host before, as dpkg has them
	boots    map[string]string            // of each host before
	rollout  *drydockv1.Rollout
	report   PatchReport
}

// RunPatch shows what Drydock exists for: three hosts that lack updates are patched with `drydock patch` while six pods on them
// are in use. It passes only if no client lost anything, and dpkg has every pinned version on every host.
func RunPatch(ctx context.Context, cfg Config) error {
	results := filepath.Join(cfg.Dir, "demo-patch.json")
	if err := errors.Join(os.MkdirAll(cfg.Dir, 0o755), removeIfThere(results)); err != nil {
		return err
	}
	p := &patching{Config: cfg, scene: scene{view: newView(cfg.Out)}}
	err := errors.Join(p.run(ctx), p.endUsers())
	p.view.close()
	err = errors.Join(err, p.report.write(results), p.report.show(cfg.Out), p.verdict())
	return p.finish(ctx, cfg.Out, filepath.Join(cfg.Dir, "demo-patch-logs"), cfg.Keep, err)
}

func (p *patching) run(ctx context.Context) error {
	steps := []func(context.Context) error{p.up, p.startPods, p.startClients, p.lookBefore, p.patch, p.lookAfter, p.endClients}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *patching) up(ctx context.Context) error {
	return p.bringUp(ctx, lab.Options{Name: p.Lab, Binary: p.Binary, Updates: lab.Updates{Mirror: true, Own: true}})
}

// patchedApps are two pods for each host.
func patchedApps() []app {
	all := apps()
	for _, a := range apps() {
		switch a.name {
		case images.Redis:
			a.name, a.image = "sessions", images.Redis
		case images.Nginx:
			a.name, a.image = "downloads", images.Nginx
		default:
			continue
		}
		all = append(all, a)
	}
	return all
}

func (p *patching) startPods(ctx context.Context) error {
	for i, a := range patchedApps() {
		if err := p.startPod(ctx, a, route[i%len(route)]); err != nil {
			return err
		}
	}
	return nil
}

// statusLimit is how long the hosts may take to ask their archives, all at once on a busy machine.
const statusLimit = 10 * time.Minute

// lookBefore waits until every host knows that it lacks something, and notes what dpkg has there.
func (p *patching) lookBefore(ctx context.Context) error {
	p.view.say("waiting until the hosts know what they lack")
	err := p.awaitStatus(ctx, func(s *drydockv1.StatusSummary) bool { return s.GetSecurityUpdates() > 0 })
	if err != nil {
		return err
	}
	if err := p.drydock(ctx, "status"); err != nil {
		return err
	}
	p.boots = map[string]string{}
	if p.versions, err = p.installed(ctx); err != nil {
		return err
	}
	return p.eachHost(ctx, func(h *drydockv1.Host) { p.boots[h.Name] = h.BootId })
}

// patch has the whole pool patched, as an operator does.
func (p *patching) patch(ctx context.Context) error {
	began := time.Now()
	err := p.drydock(ctx, "patch", lab.Pool)
	p.report.Duration = time.Since(began).Round(100 * time.Millisecond).Seconds()
	found, ferr := p.lastRollout(ctx)
	p.rollout = found
	return errors.Join(err, ferr)
}

// lastRollout is the pool's latest, with all that is known of it.
func (p *patching) lastRollout(ctx context.Context) (*drydockv1.Rollout, error) {
	list, err := p.rig.ListRollouts(ctx, connect.NewRequest(&drydockv1.ListRolloutsRequest{Pool: lab.Pool, Limit: 1}))
	if err != nil {
		return nil, err
	}
	if len(list.Msg.Rollouts) == 0 {
		return nil, errors.New("there was no rollout")
	}
	res, err := p.rig.GetRollout(ctx, connect.NewRequest(&drydockv1.GetRolloutRequest{Id: list.Msg.Rollouts[0].Id}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Rollout, nil
}

// lookAfter takes down what became of hosts and pods: the versions are dpkg's.
func (p *patching) lookAfter(ctx context.Context) error {
	if err := p.bookMoves(ctx); err != nil {
		return err
	}
	err := p.awaitStatus(ctx, func(s *drydockv1.StatusSummary) bool {
		return s.GetUpdates() == 0 && !s.GetRebootRequired() && len(s.GetProblems()) == 0
	})
	if serr := p.drydock(ctx, "status"); err != nil || serr != nil {
		return errors.Join(err, serr)
	}
	after, err := p.installed(ctx)
	if err != nil {
		return err
	}
	boots := map[string]string{}
	if err := p.eachHost(ctx, func(h *drydockv1.Host) { boots[h.Name] = h.BootId }); err != nil {
		return err
	}
	for _, h := range p.rollout.Hosts {
		p.bookHost(h, after[h.Host], boots[h.Host])
	}
	return nil
}

// bookHost compares what a host was to be given with what dpkg says that it has.
func (p *patching) bookHost(h *drydockv1.RolloutHost, after map[string]string, boot string) {
	row := PatchedHost{Name: h.Host, Packages: []PatchedPackage{}, Reboot: cmp.Or(h.RebootKind, "none")}
	for _, pin := range h.GetPatch().GetPackages() {
		row.Packages = append(row.Packages, PatchedPackage{pin.Name, p.versions[h.Host][pin.Name], after[pin.Name]})
		if after[pin.Name] != pin.To {
			p.fault("%s: %s was pinned to %s, and dpkg has %q", h.Host, pin.Name, pin.To, after[pin.Name])
		}
	}
	if rebooted := boot != p.boots[h.Host]; rebooted != (row.Reboot != "none") {
		p.fault("%s: reboot is reported as %s, and its boot was %s and is %s", h.Host, row.Reboot, p.boots[h.Host], boot)
	}
	p.report.Hosts = append(p.report.Hosts, row)
}

// bookMoves takes down the moves, with what the clients of each pod noticed.
func (p *patching) bookMoves(ctx context.Context) error {
	for _, m := range p.rollout.Moves {
		if m.Outcome != drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED {
			continue
		}
		i := slices.IndexFunc(p.pods, func(t *traveller) bool { return t.app.name == m.Pod })
		if i < 0 {
			return fmt.Errorf("the rollout moved %s, which is none of the demo's pods", m.Pod)
		}
		res, err := p.rig.GetMigration(ctx, connect.NewRequest(&drydockv1.GetMigrationRequest{Id: m.Migration}))
		if err != nil {
			return err
		}
		report := res.Msg.GetMigration()
		blackout := p.pods[i].silence(report.GetStarted().AsTime(), report.GetFinished().AsTime())
		p.report.Moves = append(p.report.Moves, PatchMove{m.Pod, m.From, m.To, millis(blackout)})
		p.view.change(p.pods[i], func(l *line) { l.host, l.last = m.To, fmt.Sprintf("blackout %.0f ms", millis(blackout)) })
	}
	return nil
}

// silence is the longest that the clients waited for an answer in a time, and in what followed until they had one.
func (t *traveller) silence(from, to time.Time) time.Duration {
	end := to
	for limit := to.Add(answerLimit); end.Before(limit) && t.user.blackout(to, end) >= end.Sub(to); {
		end = end.Add(10 * time.Millisecond)
	}
	return t.user.blackout(from, end)
}

func (p *patching) endClients(ctx context.Context) error {
	return p.stopClients(ctx, func(_ *traveller, found findings) { p.report.add(found) })
}

// awaitStatus waits until the status of every host is as it should be.
func (p *patching) awaitStatus(ctx context.Context, good func(*drydockv1.StatusSummary) bool) error {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	for {
		var wrong []string
		err := p.eachHost(ctx, func(h *drydockv1.Host) {
			if h.Summary == nil || !good(h.Summary) {
				wrong = append(wrong, fmt.Sprintf("%s: %v", h.Name, h.Summary))
			}
		})
		if err == nil && len(wrong) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the hosts' status is not what it should be: %s", strings.Join(wrong, "; ")), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (p *patching) eachHost(ctx context.Context, do func(*drydockv1.Host)) error {
	res, err := p.rig.ListHosts(ctx, connect.NewRequest(&drydockv1.ListHostsRequest{}))
	if err != nil {
		return err
	}
	for _, h := range res.Msg.Hosts {
		do(h)
	}
	return nil
}

// installed is what dpkg has on each host: versions by package.
func (p *patching) installed(ctx context.Context) (map[string]map[string]string, error) {
	all := map[string]map[string]string{}
	for _, host := range p.rig.Hosts() {
		out, err := p.rig.Exec(ctx, host, "dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n").Output()
		if err != nil {
			return nil, fmt.Errorf("ask dpkg on %s: %w", host, err)
		}
		all[host] = map[string]string{}
		for line := range strings.Lines(string(out)) {
			if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "installed" {
				all[host][fields[1]] = fields[2]
			}
		}
	}
	return all, nil
}

// drydock runs the command line as an operator does, and shows what it says.
func (p *patching) drydock(ctx context.Context, args ...string) error {
	p.view.say("$ drydock %s", strings.Join(args, " "))
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, p.Binary, args...)
	cmd.Env = append(os.Environ(), p.rig.Env()...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stdout, cmd.Stderr = p.view, io.MultiWriter(p.view, &said)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("drydock %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return nil
}

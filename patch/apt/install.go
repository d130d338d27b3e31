package apt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/patch"
	"drydock/patch/kept"
)

// attempts is how often an installation is tried that was killed half-way.
const attempts = 4

// Install implements patch.Installer. What dpkg says is installed decides, and not how apt ended.
func (a *Apt) Install(ctx context.Context, w patch.Work) error {
	where, err := a.paths(ctx)
	if err != nil {
		return err
	}
	i := &installation{Apt: a, where: where, work: w}
	for range attempts {
		if err := a.turn(ctx, where.installing(), func(activity string) { w.Tell(0, activity) }); err != nil {
			return err
		}
		i.report, i.failed = nil, nil
		lacking, err := i.once(ctx)
		if err != nil {
			return err
		}
		if len(lacking) == 0 {
			return i.mark(ctx)
		}
		if len(i.report) > 0 || !i.killed() {
			return i.explain(lacking)
		}
	}
	return i.explain([]*drydockv1.Refusal{patch.Refusal("see "+w.Log+" on the host for what ends it", "dpkg was killed %d times", attempts)})
}

// installation is one run of Install.
type installation struct {
	*Apt
	where paths
	work  patch.Work
	// report are the packages that failed, failed how apt or dpkg ended.
	report []failedPackage
	failed error
}

// once repairs and installs, and says what is lacking then.
func (i *installation) once(ctx context.Context) ([]*drydockv1.Refusal, error) {
	all, err := i.database(ctx, i.where)
	if err != nil {
		return nil, err
	}
	if interrupted(i.where, all) {
		if err := i.repair(ctx); err != nil {
			return nil, err
		}
		if all, err = i.database(ctx, i.where); err != nil {
			return nil, err
		}
	}
	files, err := i.files(all)
	if err != nil {
		return nil, err
	}
	if len(files) > 0 {
		i.report, i.failed = nil, nil // what could not be repaired, the patch brings anew
		if err := i.unchanged(ctx, files); err != nil {
			return nil, err
		}
		if err := i.apt(ctx, files); err != nil {
			return nil, err
		}
	}
	return i.Lacking(ctx, i.work.Patch)
}

// interrupted says whether dpkg was stopped half-way.
func interrupted(p paths, all []have) bool {
	journal, _ := filepath.Glob(filepath.Join(p.admin, "updates", "[0-9]*"))
	return len(journal) > 0 || slices.ContainsFunc(all, func(h have) bool { return !h.whole() })
}

// repair has dpkg finish what was interrupted. Where that fails, the patch may bring what mends it: its end decides.
func (i *installation) repair(ctx context.Context) error {
	i.work.Tell(0, "repairs an installation that was interrupted")
	options, err := i.run(ctx, "apt-config", "dump", "--format", "%v%n", "--no-empty", "DPkg::Options")
	if err != nil {
		return err
	}
	args := slices.Concat(strings.Split(strings.TrimSpace(options), "\n"), i.conffiles(), []string{"--status-fd", "3", "--configure", "-a"})
	args = slices.DeleteFunc(args, func(arg string) bool { return arg == "" })
	return i.do(ctx, "dpkg", args)
}

// conffiles are dpkg's options for configuration files that were changed on the host.
func (i *installation) conffiles() []string {
	if i.work.Conffiles == patch.Replace {
		return []string{"--force-confnew"}
	}
	return []string{"--force-confdef", "--force-confold"}
}

// files are those of the packages that are to be unpacked.
func (i *installation) files(all []have) ([]string, error) {
	return kept.Usable(packed(all, i.work.Patch.Packages), i.work.Files, fileName)
}

// packed are the packages whose files are needed: those that are not installed as they are to be. One that is unpacked whole lacks
// only what it needs, and is configured with that.
func packed(all []have, pkgs []*drydockv1.PinnedPackage) []*drydockv1.PinnedPackage {
	return slices.DeleteFunc(slices.Clone(pkgs), func(p *drydockv1.PinnedPackage) bool {
		h, found := of(all, p)
		return found && h.version == p.To && (h.whole() || h.state == "unpacked" && h.flag == "ok")
	})
}

// again has apt unpack what it takes for installed already, since dpkg notes the new version before it has unpacked all of it, and
// go on where dpkg has unpacked a package but not what it needs: without being told to, apt works on no host that lacks something.
// It knows no package to mend that with but those named, and only those that are not as they are to be are named.
var again = []string{"--reinstall", "--fix-broken"}

// unchanged has apt say what installing the files would do: nothing but what the patch says.
func (i *installation) unchanged(ctx context.Context, files []string) error {
	sim, err := i.simulation(ctx, slices.Concat(again, alone, files))
	if err != nil {
		return err
	}
	refused := &patch.Refused{}
	const remedy = "the host has changed since: resolve the patch again"
	for _, name := range sim.removed {
		refused.Reasons = append(refused.Reasons, patch.Refusal(remedy, "apt would remove %s, and a patch removes nothing", name))
	}
	for _, u := range sim.installed {
		if !slices.ContainsFunc(i.work.Patch.Packages, func(p *drydockv1.PinnedPackage) bool { return p.Name == u.Name && p.To == u.To }) {
			refused.Reasons = append(refused.Reasons, patch.Refusal(remedy, "apt would install %s %s, which is not part of the patch", u.Name, u.To))
		}
	}
	if len(refused.Reasons) > 0 {
		return refused
	}
	return nil
}

// apt installs files.
func (i *installation) apt(ctx context.Context, files []string) error {
	args := slices.Concat([]string{"install", "--no-remove", "-o", "APT::Status-Fd=3", "-o", "DPkg::Lock::Timeout=300"}, again, quiet, alone)
	for _, option := range i.conffiles() {
		args = append(args, "-o", "Dpkg::Options::="+option)
	}
	return i.do(ctx, "apt-get", append(args, files...))
}

// do runs what changes packages. Its failure is remembered; the error is of what could not be run. The end of ctx does not end
// it: what it would leave is worse than what it does.
func (i *installation) do(ctx context.Context, name string, args []string) error {
	cmd := i.command(context.WithoutCancel(ctx), name, args...)
	cmd.Env = append(cmd.Env, "UCF_FORCE_CONFFOLD=1")
	if i.work.Conffiles == patch.Replace {
		cmd.Env[len(cmd.Env)-1] = "UCF_FORCE_CONFFNEW=1"
	}
	r, err := i.watched(cmd, i.work.Dir, i.work.Log, true, i.work.Tell)
	if r == nil {
		return err
	}
	i.report, i.failed = append(i.report, r.failed...), errors.Join(i.failed, err)
	return nil
}

// killed says whether the last run was ended by a signal, apt's or that of the dpkg that it ran.
func (i *installation) killed() bool {
	return i.failed != nil && slices.ContainsFunc([]string{"signal", "exited unexpectedly", "Could not get lock"}, func(words string) bool {
		return strings.Contains(i.failed.Error(), words)
	})
}

// explain makes of what is lacking and what was reported why the installation failed.
func (i *installation) explain(lacking []*drydockv1.Refusal) error {
	refused := &patch.Refused{}
	for _, f := range i.report {
		refused.Reasons = append(refused.Reasons, patch.Refusal("see "+i.work.Log+" on the host; mend what keeps it from being installed, and try again",
			"package %s: %s: %s", f.name, f.words, lastWords(i.work.Log, f.name)))
	}
	if len(refused.Reasons) == 0 {
		var failed *failure
		if errors.As(i.failed, &failed) {
			refused.Reasons = append(refused.Reasons, patch.Refusal("see "+i.work.Log+" on the host", "%s ended without success: %s", failed.command, failed.words()))
		}
		refused.Reasons = append(refused.Reasons, lacking...)
	}
	return refused
}

// lastWords are the lines that were logged before dpkg named the package as one that failed.
func lastWords(log, name string) string {
	data, err := os.ReadFile(log)
	if err != nil {
		return ""
	}
	const most = 3
	var before []string
	last := ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "dpkg: error processing") && strings.Contains(line, name) {
			last = strings.Join(before, " / ")
		}
		if before = append(before, line); len(before) > most {
			before = before[1:]
		}
	}
	return last
}

// mark has packages that came along, and new ones, stay marked so: apt takes whatever is named for wanted.
func (i *installation) mark(ctx context.Context) error {
	before := make(map[string]string)
	for line := range strings.Lines(string(i.work.Before)) {
		if part := strings.Fields(line); len(part) == 7 {
			before[part[0]+":"+part[1]] = part[6]
		}
	}
	var came []string
	for _, p := range i.work.Patch.Packages {
		mark, known := before[p.Name+":"+p.Arch]
		if mark == automatic || !known && p.From == "" {
			came = append(came, p.Name+archOf(p))
		}
	}
	if len(came) == 0 {
		return nil
	}
	_, err := i.run(ctx, "apt-mark", append([]string{"auto"}, came...)...)
	return err
}

func archOf(p *drydockv1.PinnedPackage) string {
	if p.Arch == "all" {
		return ""
	}
	return ":" + p.Arch
}

// Lacking implements patch.Installer.
func (a *Apt) Lacking(ctx context.Context, p *drydockv1.Patch) ([]*drydockv1.Refusal, error) {
	where, err := a.paths(ctx)
	if err != nil {
		return nil, err
	}
	all, err := a.database(ctx, where)
	if err != nil {
		return nil, err
	}
	var reasons []*drydockv1.Refusal
	for _, pkg := range p.GetPackages() {
		h, found := of(all, pkg)
		switch {
		case !found:
			reasons = append(reasons, patch.Refusal("patch the host again", "%s %s is not installed", pkg.Name, pkg.To))
		case h.version != pkg.To:
			reasons = append(reasons, patch.Refusal("patch the host again", "%s is at %s, and not at %s", pkg.Name, h.version, pkg.To))
		}
	}
	for _, h := range all {
		if !h.whole() {
			reasons = append(reasons, patch.Refusal("run `dpkg --configure -a` on the host, then `apt-get -f install`", "package %s %s is %s", h.name, h.version, describe(h)))
		}
	}
	return reasons, nil
}

func describe(h have) string {
	if h.flag == "ok" {
		return h.state
	}
	return fmt.Sprintf("%s, and must be installed again", h.state)
}

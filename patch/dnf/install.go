package dnf

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/patch"
	"drydock/patch/kept"
)

// attempts is how often an installation is tried that was killed half-way.
const attempts = 4

//go:embed install.py
var installScript string

// Install implements patch.Installer. What rpm says is installed, and what was written down of scripts, decides, and not how dnf
// ended.
func (d *Dnf) Install(ctx context.Context, w patch.Work) error {
	where, err := d.paths(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(d.Unfinished), 0o700); err != nil {
		return err
	}
	var ended error
	for range attempts {
		if err := d.turn(ctx, where.installing, func(activity string) { w.Tell(0, activity) }); err != nil {
			return err
		}
		s, err := d.state(ctx)
		if err != nil {
			return err
		}
		todo := slices.DeleteFunc(slices.Clone(w.Patch.Packages), s.whole)
		if len(todo) == 0 && len(s.duplicates()) == 0 {
			return d.settle(ctx, s, w)
		}
		done, err := d.once(ctx, s, todo, w)
		if done == nil {
			return err
		}
		if done.Refused != "" {
			return patch.Refuse("see "+w.Log+" on the host, mend it, and try again", "%s", done.Refused)
		}
		if err == nil {
			return d.explain(ctx, done, w)
		}
		if ended = err; !killed(err) {
			return err
		}
	}
	return patch.Refuse("see "+w.Log+" on the host for what ends it", "dnf was killed %d times, at last: %v", attempts, ended)
}

// killed says whether a command was ended by a signal.
func killed(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && !exit.Exited()
}

// once installs what is to do, and removes what an interrupted installation left. The end of ctx does not end it: what it would
// leave is worse than what it does.
func (d *Dnf) once(ctx context.Context, s *state, todo []*drydockv1.PinnedPackage, w patch.Work) (*told, error) {
	files, err := kept.Usable(todo, w.Files, fileName)
	if err != nil {
		return nil, err
	}
	if len(s.duplicates()) > 0 || len(s.open) > 0 {
		w.Tell(0, "repairs an installation that was interrupted")
	}
	open, err := json.Marshal(s.open)
	if err != nil {
		return nil, err
	}
	given := map[string]any{"files": files, "unfinished": d.Unfinished, "entries": json.RawMessage(open)}
	what := "install"
	for _, p := range todo {
		what += " " + pinOf(p).String()
	}
	return d.watched(context.WithoutCancel(ctx), what, installScript, given, w.Dir, w.Log, w.Tell)
}

// explain makes of scripts that failed, and of what is lacking, why the installation did; nil where it did not.
func (d *Dnf) explain(ctx context.Context, done *told, w patch.Work) error {
	s, err := d.state(ctx)
	if err != nil {
		return err
	}
	refused := &patch.Refused{}
	remedy := "see " + w.Log + " on the host; mend what keeps it from being installed, and try again"
	for _, f := range done.Failed {
		if f.Name == "" {
			refused.Reasons = append(refused.Reasons, patch.Refusal(remedy, "%s", f.Words))
			continue
		}
		refused.Reasons = append(refused.Reasons, patch.Refusal(remedy, "package %s: its %s script failed: %s", f.Name, f.Script, f.Words))
	}
	if len(refused.Reasons) == 0 {
		refused.Reasons = s.lacking(w.Patch)
	}
	if len(refused.Reasons) > 0 {
		return refused
	}
	return d.settle(ctx, s, w)
}

// settle ends an installation whose packages are all in their places: what is open is not of this patch, and configuration files
// become what was ordered.
func (d *Dnf) settle(ctx context.Context, s *state, w patch.Work) error {
	if lacking := s.lacking(w.Patch); len(lacking) > 0 {
		return &patch.Refused{Reasons: lacking}
	}
	return d.conffiles(ctx, w)
}

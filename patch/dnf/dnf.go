// Package dnf is the Installer of dnf 4. dnf's own library says what would be installed, fetches package files and installs them;
// each file is compared with what the verified metadata says of it and kept aside, so that neither a newer version nor a repository
// that vanishes changes what is installed.
//
// rpm does not remember which of a package's scripts have run. What it does not remember is written down beside: a package whose
// script failed, or whose installation was cut off, is installed anew by the next try.
package dnf

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/patch"
	"drydock/patch/kept"
	"drydock/patch/watch"
	"drydock/status/packages/dnf"
)

// Dnf is the installer.
type Dnf struct {
	dnf.Library
	// Unfinished is the file in which packages are written down that are not installed to their end. It need not exist.
	Unfinished string
	// Judge is needed to resolve and to download.
	Judge kept.Judge
	// Patience is how long it waits for others that work on packages; 0: half an hour.
	Patience time.Duration
}

var _ patch.Installer = (*Dnf)(nil)

// Name implements patch.Installer.
func (d *Dnf) Name() string { return "dnf" }

// Remedies implements patch.Installer.
func (d *Dnf) Remedies() patch.Remedies {
	return patch.Remedies{
		Unhold: func(name string) string { return "run `dnf versionlock delete " + name + "` on the host" },
		Clean:  "`dnf clean packages` does", OldKernels: "`dnf remove --oldinstallonly`",
	}
}

// Archives implements patch.Installer: dnf fetches to where files are kept.
func (d *Dnf) Archives(context.Context) (string, error) { return "", nil }

// fileName is the name of a package's file.
func fileName(p *drydockv1.PinnedPackage) string {
	return fmt.Sprintf("%s-%s.%s.rpm", p.Name, strings.ReplaceAll(p.To, ":", "%3a"), p.Arch)
}

// pin is a package as scripts are given it.
type pin struct {
	Name   string `json:"name"`
	Arch   string `json:"arch"`
	EVR    string `json:"evr"`
	Sha256 string `json:"sha256,omitempty"`
}

func (p pin) String() string { return p.Name + "-" + p.EVR + "." + p.Arch }

func pinOf(p *drydockv1.PinnedPackage) pin { return pin{p.Name, p.Arch, p.To, p.Sha256} }

// told is a line that a script reports of itself.
type told struct {
	Percent  int32    `json:"percent"`
	Activity string   `json:"activity"`
	Refused  string   `json:"refused"`
	Remedy   string   `json:"remedy"`
	Files    []string `json:"files"`
	Failed   []failed `json:"failed"`
}

// failed is a script that failed, or, without a name, another fault.
type failed struct {
	Name   string `json:"name"`
	Script string `json:"script"`
	Words  string `json:"words"`
}

// watched runs a script with its report followed and its output appended to a log. all is what it told at last; nil where it did not
// run. refused is what it turned down itself.
func (d *Dnf) watched(ctx context.Context, what, script string, given map[string]any, dir, log string, tell patch.Tell) (all *told, err error) {
	cmd, err := d.Command(ctx, script, given)
	if err != nil {
		return nil, err
	}
	if err := watch.Head(log, what); err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	all = &told{}
	said, ran, err := watch.Run(cmd, dir, log, func(line string) {
		var now told
		if json.Unmarshal([]byte(line), &now) != nil {
			return
		}
		if now.Activity != "" {
			tell(now.Percent, now.Activity)
		}
		now.Failed = append(all.Failed, now.Failed...)
		*all = now
	})
	if !ran {
		return nil, err
	}
	var exit *exec.ExitError
	if err != nil && all.Refused == "" {
		lines := strings.Split(strings.TrimSpace(said), "\n")
		return all, fmt.Errorf("%s: %w: %s", what, err, lines[len(lines)-1])
	}
	if errors.As(err, &exit) {
		return all, nil // it has said why
	}
	return all, err
}

// have is a package as rpm has it.
type have struct {
	pin
	// Reason is how dnf came to it: user, dependency and the like.
	Reason string `json:"reason"`
	// Several says that more than one version of it may be installed.
	Several bool `json:"several"`
	// Tid is the transaction that brought it.
	Tid int64 `json:"tid"`
}

// unfinished is a package that rpm takes for installed, though not all of its scripts ran well.
type unfinished struct {
	pin
	Tid int64  `json:"tid"`
	Why string `json:"why"`
}

// state is what is installed.
type state struct {
	// all are sorted: of one name, the oldest first.
	all []have
	// open are the entries of the unfinished that still hold: the very installation that was noted is there.
	open []unfinished
}

//go:embed state.py
var stateScript string

func (d *Dnf) state(ctx context.Context) (*state, error) {
	s := &state{open: []unfinished{}}
	if err := d.Ask(ctx, stateScript, nil, &s.all); err != nil {
		return nil, err
	}
	var noted []unfinished
	data, err := os.ReadFile(d.Unfinished)
	if err == nil {
		err = json.Unmarshal(data, &noted)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("packages whose installation was not finished, %s: %w", d.Unfinished, err)
	}
	for _, u := range noted {
		if slices.ContainsFunc(s.all, func(h have) bool { return h.pin == u.pin && h.Tid == u.Tid }) {
			s.open = append(s.open, u)
		}
	}
	return s, nil
}

// whole says whether a package is installed at its version, no other version of it lies beside, and nothing of it is open.
func (s *state) whole(p *drydockv1.PinnedPackage) bool {
	want, found := pin{p.Name, p.Arch, p.To, ""}, false
	for _, h := range s.all {
		switch {
		case h.pin == want && found:
			return false
		case h.pin == want:
			found = true
		case h.Name == p.Name && h.Arch == p.Arch && !h.Several:
			return false
		}
	}
	return found && !slices.ContainsFunc(s.open, func(u unfinished) bool { return u.pin == want })
}

// duplicates are packages that lie beside a newer version, or once more, where there should be one.
func (s *state) duplicates() []have {
	var found []have
	for i, h := range s.all {
		if !h.Several && slices.ContainsFunc(s.all[i+1:], func(o have) bool { return o.Name == h.Name && o.Arch == h.Arch }) {
			found = append(found, h)
		}
	}
	return found
}

// Files implements patch.Installer.
func (d *Dnf) Files(ctx context.Context, p *drydockv1.Patch) ([]string, error) {
	var names []string
	for _, pkg := range p.GetPackages() {
		if pkg.From != "" {
			names = append(names, pkg.Name)
		}
	}
	return d.listed(ctx, "-l", names)
}

// listed asks rpm for files of packages that are installed.
func (d *Dnf) listed(ctx context.Context, which string, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	args := append([]string{"--root", filepath.Join("/", d.Root), "-q", which}, names...)
	out, err := exec.CommandContext(ctx, "rpm", args...).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // its status counts packages that are not there
		return nil, fmt.Errorf("ask rpm for files: %w", err)
	}
	var files []string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "/") {
			files = append(files, strings.TrimSpace(line))
		}
	}
	return files, nil
}

// Snapshot implements patch.Installer: name, version, how dnf came to it, and whether it is installed to its end.
func (d *Dnf) Snapshot(ctx context.Context) ([]byte, error) {
	s, err := d.state(ctx)
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	for _, h := range s.all {
		is := "installed"
		if slices.ContainsFunc(s.open, func(u unfinished) bool { return u.pin == h.pin }) {
			is = "unfinished"
		}
		fmt.Fprintf(&out, "%s %s %s %s %s\n", h.Name, h.Arch, h.EVR, h.Reason, is)
	}
	return []byte(out.String()), nil
}

// Lacking implements patch.Installer.
func (d *Dnf) Lacking(ctx context.Context, p *drydockv1.Patch) ([]*drydockv1.Refusal, error) {
	s, err := d.state(ctx)
	if err != nil {
		return nil, err
	}
	return s.lacking(p), nil
}

func (s *state) lacking(p *drydockv1.Patch) []*drydockv1.Refusal {
	var reasons []*drydockv1.Refusal
	for _, pkg := range p.GetPackages() {
		want := pin{pkg.Name, pkg.Arch, pkg.To, ""}
		if slices.ContainsFunc(s.all, func(h have) bool { return h.pin == want }) {
			continue
		}
		at := slices.IndexFunc(s.all, func(h have) bool { return h.Name == pkg.Name && h.Arch == pkg.Arch && !h.Several })
		if at >= 0 {
			reasons = append(reasons, patch.Refusal("patch the host again", "%s is at %s, and not at %s", pkg.Name, s.all[at].EVR, pkg.To))
			continue
		}
		reasons = append(reasons, patch.Refusal("patch the host again", "%s %s is not installed", pkg.Name, pkg.To))
	}
	for _, h := range s.duplicates() {
		reasons = append(reasons, patch.Refusal("patch the host again, or run `dnf remove --duplicates` on it", "package %s %s is installed beside another version", h.Name, h.EVR))
	}
	for _, u := range s.open {
		reasons = append(reasons, patch.Refusal("patch the host again, or run `dnf reinstall "+u.Name+"` on it", "package %s %s: %s", u.Name, u.EVR, u.Why))
	}
	return reasons
}

// Package apt is the Installer of Debian's package manager. What would be installed is asked of apt's own simulation; package
// files are fetched by apt, compared with what the verified metadata says of them, and kept aside, so that neither a newer version
// nor an archive that vanishes changes what is installed.
package apt

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/patch"
	"drydock/patch/kept"
)

// Apt is the installer.
type Apt struct {
	// Config is a configuration file that takes the place of the host's /etc/apt; empty: the host's.
	Config string
	// Judge is needed to resolve and to download.
	Judge kept.Judge
	// Patience is how long it waits for others that work on packages; 0: half an hour.
	Patience time.Duration
}

var _ patch.Installer = (*Apt)(nil)

// Name implements patch.Installer.
func (a *Apt) Name() string { return "apt" }

// Remedies implements patch.Installer.
func (a *Apt) Remedies() patch.Remedies {
	return patch.Remedies{
		Unhold: func(name string) string { return "run `apt-mark unhold " + name + "` on the host" },
		Clean:  "`apt-get clean` does", OldKernels: "`apt-get autoremove --purge`",
	}
}

// quiet are the options of every run: nothing is removed or added because the host's configuration says so.
var quiet = []string{"-q", "-y", "-o", "APT::Get::AutomaticRemove=false", "-o", "APT::Get::Show-User-Simulation-Note=no", "-o", "Dpkg::Use-Pty=0"}

// simulate are the options of a run that changes nothing and takes no lock.
var simulate = append([]string{"-s", "-o", "Debug::NoLocking=yes"}, quiet...)

// alone are the options of a run that knows the package files that it is given, and no archive: it takes none of them from
// anywhere else, and nothing beside them.
var alone = []string{"--no-install-recommends", "-o", "Dir::Etc::sourcelist=/dev/null", "-o", "Dir::Etc::sourceparts=/dev/null",
	"-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="}

// command has apt and dpkg speak English and ask nobody. needrestart, where it is installed, lists what it would restart.
func (a *Apt) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true",
		"APT_LISTCHANGES_FRONTEND=none", "APT_LISTBUGS_FRONTEND=none", "NEEDRESTART_MODE=l", "NEEDRESTART_SUSPEND=1",
		// The agent may be started without the directories that maintainers' scripts need.
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	if a.Config != "" {
		cmd.Env = append(cmd.Env, "APT_CONFIG="+a.Config)
	}
	return cmd
}

// run returns what a command writes, or its words as an error.
func (a *Apt) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := a.command(ctx, name, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), &failure{command: name + " " + args[0], err: err, said: said.String()}
	}
	return out.String(), nil
}

// failure is a command that ended without success.
type failure struct {
	command string
	err     error
	said    string
}

func (f *failure) Error() string {
	return fmt.Sprintf("%s: %v: %s", f.command, f.err, strings.TrimSpace(f.said))
}

func (f *failure) Unwrap() error { return f.err }

// words are what apt says is wrong, without its warnings.
func (f *failure) words() string {
	var errs []string
	for line := range strings.Lines(f.said) {
		if text, found := strings.CutPrefix(strings.TrimSpace(line), "E: "); found {
			errs = append(errs, text)
		}
	}
	if len(errs) == 0 {
		return f.Error()
	}
	return strings.Join(errs, "; ")
}

// paths are where apt has its things.
type paths struct{ admin, archives, lists string }

func (a *Apt) paths(ctx context.Context) (paths, error) {
	out, err := a.run(ctx, "apt-config", "shell", "status", "Dir::State::status/f", "archives", "Dir::Cache::archives/d", "lists", "Dir::State::lists/d")
	if err != nil {
		return paths{}, err
	}
	values := make(map[string]string)
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = strings.Trim(value, "'")
	}
	return paths{admin: filepath.Dir(values["status"]), archives: values["archives"], lists: values["lists"]}, nil
}

// Archives implements patch.Installer.
func (a *Apt) Archives(ctx context.Context) (string, error) {
	p, err := a.paths(ctx)
	return p.archives, err
}

// fileName is the name that apt gives a package's file.
func fileName(p *drydockv1.PinnedPackage) string {
	return fmt.Sprintf("%s_%s_%s.deb", p.Name, strings.ReplaceAll(p.To, ":", "%3a"), p.Arch)
}

// have is a package as dpkg has it.
type have struct {
	name, arch, version string
	// want is install or hold, state is installed, half-configured and so on, flag is ok or reinstreq.
	want, state, flag string
	// key is what dpkg calls it.
	key string
	// kib is the room that it takes.
	kib string
}

// whole says whether it is installed to its end.
func (h have) whole() bool {
	return h.flag == "ok" && slices.Contains([]string{"installed", "config-files", "not-installed"}, h.state)
}

// database is all that dpkg has.
func (a *Apt) database(ctx context.Context, p paths) ([]have, error) {
	const format = `${Package}|${Architecture}|${Version}|${db:Status-Want}|${db:Status-Status}|${db:Status-Eflag}|${binary:Package}|${Installed-Size}\n`
	out, err := a.run(ctx, "dpkg-query", "--admindir="+p.admin, "-W", "-f", format)
	if err != nil && !strings.Contains(err.Error(), "no packages found") {
		return nil, err
	}
	var all []have
	for line := range strings.Lines(out) {
		part := strings.Split(strings.TrimSpace(line), "|")
		if len(part) != 8 {
			return nil, fmt.Errorf("dpkg-query wrote %q", line)
		}
		all = append(all, have{part[0], part[1], part[2], part[3], part[4], part[5], part[6], part[7]})
	}
	return all, nil
}

// of is the package that a pinned one takes the place of, if any. A package may change between an architecture and all of them.
func of(all []have, p *drydockv1.PinnedPackage) (have, bool) {
	found := -1
	for i, h := range all {
		if h.name != p.Name || h.state == "not-installed" || h.state == "config-files" {
			continue
		}
		if h.arch == p.Arch {
			return h, true
		}
		if h.arch == "all" || p.Arch == "all" {
			found = i
		}
	}
	if found < 0 {
		return have{}, false
	}
	return all[found], true
}

// Files implements patch.Installer.
func (a *Apt) Files(ctx context.Context, p *drydockv1.Patch) ([]string, error) {
	where, err := a.paths(ctx)
	if err != nil {
		return nil, err
	}
	all, err := a.database(ctx, where)
	if err != nil {
		return nil, err
	}
	args := []string{"--admindir=" + where.admin, "-L"}
	for _, pkg := range p.GetPackages() {
		if h, found := of(all, pkg); found {
			args = append(args, h.key)
		}
	}
	if len(args) == 2 {
		return nil, nil
	}
	out, err := a.run(ctx, "dpkg-query", args...)
	return strings.Fields(out), err
}

// Snapshot implements patch.Installer: name, version, what is wanted, state, flag, and whether it was asked for or came along.
func (a *Apt) Snapshot(ctx context.Context) ([]byte, error) {
	p, err := a.paths(ctx)
	if err != nil {
		return nil, err
	}
	all, err := a.database(ctx, p)
	if err != nil {
		return nil, err
	}
	auto, err := a.run(ctx, "apt-mark", "showauto")
	if err != nil {
		return nil, err
	}
	native, err := a.run(ctx, "dpkg", "--print-architecture")
	if err != nil {
		return nil, err
	}
	native = strings.TrimSpace(native)
	marked := strings.Fields(auto)
	var out bytes.Buffer
	for _, h := range all {
		mark := manual
		named := h.name
		if h.arch != native && h.arch != "all" {
			named += ":" + h.arch
		}
		if slices.Contains(marked, named) {
			mark = automatic
		}
		fmt.Fprintf(&out, "%s %s %s %s %s %s %s\n", h.name, h.arch, h.version, h.want, h.state, h.flag, mark)
	}
	return out.Bytes(), nil
}

// Marks of a snapshot.
const (
	manual    = "manual"
	automatic = "auto"
)

//go:build root

// Package apttest makes roots of apt's own for tests, with archives that are signed here and served over loopback. Real apt and
// dpkg work in them; the machine's own packages are not touched.
package apttest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// World is a root of apt's own, with archives that are signed here and served over loopback.
type World struct {
	t    *testing.T
	Root string
	gpg  string
	URL  string
	Now  time.Time
	// Sources are the lines of sources.list.
	Sources []string
	// touched counts the times that were given to files.
	touched int
}

// New makes one with nothing installed, no sources, and a key named archive.
func New(t *testing.T) *World {
	t.Helper()
	w := &World{t: t, Now: time.Now().UTC().Truncate(time.Second)}
	var err error
	// Not t.TempDir: apt reads commas in the name of a key's file as more names.
	if w.Root, err = os.MkdirTemp("", "apt-root-"); err != nil {
		t.Fatal(err)
	}
	if w.gpg, err = os.MkdirTemp("/tmp", "gpg-"); err != nil { // short: its agent's socket lies there
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Tool("gpgconf", "--kill", "gpg-agent")
		os.RemoveAll(w.gpg)
		os.RemoveAll(w.Root)
	})
	for _, dir := range []string{
		"etc/apt/sources.list.d", "etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "var/lib/apt/lists/partial",
		"var/lib/dpkg/info", "var/lib/dpkg/updates", "var/cache/apt/archives/partial", "var/log/apt", "srv",
	} {
		w.Make(dir)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(w.Root, "srv"))))
	t.Cleanup(server.Close)
	w.URL = server.URL
	w.Write("apt.conf", fmt.Sprintf("Dir %q;\nDir::State::status %q;\nDir::Bin::methods \"/usr/lib/apt/methods\";\nAPT::Sandbox::User \"root\";\n"+
		"Acquire::http::Proxy \"DIRECT\";\nAcquire::Languages \"none\";\nAPT::Architecture \"amd64\";\nAPT::Architectures { \"amd64\"; };\n",
		w.Root, w.Path("var/lib/dpkg/status")))
	w.Write("var/lib/dpkg/status", "")
	w.Key("archive")
	return w
}

// Path is a path in it.
func (w *World) Path(name string) string { return filepath.Join(w.Root, name) }

// Make makes a directory.
func (w *World) Make(dir string) {
	w.t.Helper()
	if err := os.MkdirAll(w.Path(dir), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

// Write writes a file, and makes its directory.
func (w *World) Write(name, text string) {
	w.t.Helper()
	w.Make(filepath.Dir(name))
	if err := os.WriteFile(w.Path(name), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// Read is what a file holds.
func (w *World) Read(name string) string {
	w.t.Helper()
	data, err := os.ReadFile(w.Path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

// Tool runs a program, with the keys of the world, and returns what it writes.
func (w *World) Tool(name string, args ...string) string {
	w.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+w.gpg, "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%s %v: %v\n%s\n%v", name, args, err, out, err)
	}
	return string(out)
}

// Key makes a key of that name, and exports it to NAME.asc.
func (w *World) Key(name string) {
	w.t.Helper()
	w.Tool("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", name+"@example.org", "rsa2048", "sign", "never")
	w.Write(name+".asc", w.Tool("gpg", "--batch", "--armor", "--export", name+"@example.org"))
}

// Archive is one suite.
type Archive struct {
	Suite, Label string
	Date, Until  time.Time
	Key          string // empty: unsigned
	Detached     bool
	Packages     []Deb
}

// Deb is a package.
type Deb struct {
	Name, Version, Source, Depends, Changelog string
	// Conflicts are packages that it cannot be installed beside.
	Conflicts string
	// Files are its files by path, without the first slash. Those in etc are configuration files.
	Files map[string]string
	// Scripts are its maintainer's: postinst and the like, without their first line.
	Scripts map[string]string
}

// Good is an archive that holds to every rule, with one newer package.
func (w *World) Good() Archive {
	return Archive{
		Suite: "stable", Label: "Debian", Date: w.Now.Add(-time.Hour), Until: w.Now.Add(7 * 24 * time.Hour), Key: "archive",
		Packages: []Deb{{Name: "tool", Version: "2.0-1"}},
	}
}

// Publish makes the archive below srv/SUITE, in place of what was there.
func (w *World) Publish(a Archive) {
	w.t.Helper()
	top := "srv/" + a.Suite
	if err := os.RemoveAll(w.Path(top)); err != nil {
		w.t.Fatal(err)
	}
	w.Make(top + "/pool")
	for _, d := range a.Packages {
		w.Build(top+"/pool", d)
	}
	dist := top + "/dists/" + a.Suite
	cmd := exec.Command("apt-ftparchive", "packages", "pool")
	cmd.Dir = w.Path(top)
	index, err := cmd.Output()
	if err != nil {
		w.t.Fatal(err)
	}
	w.Write(dist+"/main/binary-amd64/Packages", string(index))
	w.Tool("xz", "-k", w.Path(dist+"/main/binary-amd64/Packages"))
	w.sign(dist, a, w.Tool("apt-ftparchive", "-o", "APT::FTPArchive::Release::Suite="+a.Suite, "-o", "APT::FTPArchive::Release::Codename="+a.Suite,
		"-o", "APT::FTPArchive::Release::Origin=Debian", "-o", "APT::FTPArchive::Release::Label="+a.Label, "-o", "APT::FTPArchive::Release::Components=main",
		"-o", "APT::FTPArchive::Release::Architectures=amd64", "release", w.Path(dist)))
}

var dateLine = regexp.MustCompile(`(?m)^Date: .*\n`)

// sign writes the Release file with the archive's dates, and signs it as the archive says.
func (w *World) sign(dist string, a Archive, text string) {
	w.t.Helper()
	dates := "Date: " + a.Date.Format("Mon, 02 Jan 2006 15:04:05 UTC") + "\n"
	if !a.Until.IsZero() {
		dates += "Valid-Until: " + a.Until.Format("Mon, 02 Jan 2006 15:04:05 UTC") + "\n"
	}
	w.Write(dist+"/Release", dateLine.ReplaceAllString(text, dates))
	release, args := w.Path(dist+"/Release"), []string{"--batch", "--quiet", "--yes", "-u", a.Key + "@example.org"}
	switch {
	case a.Key == "":
	case a.Detached:
		w.Tool("gpg", append(args, "--armor", "--detach-sign", "-o", release+".gpg", release)...)
	default:
		w.Tool("gpg", append(args, "--clearsign", "-o", w.Path(dist+"/InRelease"), release)...)
		os.Remove(release)
		w.Touch(dist + "/InRelease")
	}
}

// Touch gives a file a time that none had before, so that apt reads it again.
func (w *World) Touch(file string) {
	w.t.Helper()
	w.touched++
	if err := os.Chtimes(w.Path(file), w.Now, w.Now.Add(time.Duration(w.touched)*time.Minute)); err != nil {
		w.t.Fatal(err)
	}
}

// Build makes a package file in a directory.
func (w *World) Build(pool string, d Deb) {
	w.t.Helper()
	tree := w.t.TempDir()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: a <a@example.org>\nDescription: %s\n", d.Name, d.Version, d.Name)
	for field, value := range map[string]string{"Source": d.Source, "Depends": d.Depends, "Conflicts": d.Conflicts} {
		if value != "" {
			control += field + ": " + value + "\n"
		}
	}
	put := func(name, text string, mode os.FileMode) {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			w.t.Fatal(err)
		}
	}
	put("DEBIAN/control", control, 0o644)
	var conffiles strings.Builder
	for name, text := range d.Files {
		put(name, text, 0o644)
		if strings.HasPrefix(name, "etc/") {
			conffiles.WriteString("/" + name + "\n")
		}
	}
	if conffiles.Len() > 0 {
		put("DEBIAN/conffiles", conffiles.String(), 0o644)
	}
	for name, text := range d.Scripts {
		put("DEBIAN/"+name, "#!/bin/sh\nset -e\n"+text+"\n", 0o755)
	}
	if d.Changelog != "" {
		put("usr/share/doc/"+d.Name+"/changelog.Debian", d.Changelog, 0o644)
	}
	if d.Changelog != "" {
		w.Tool("gzip", "-n", filepath.Join(tree, "usr/share/doc", d.Name, "changelog.Debian"))
	}
	if err := os.Chmod(tree, 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.Tool("dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, w.Path(pool))
}

// Source configures a suite, with the options of its line.
func (w *World) Source(suite, options string) {
	w.Sources = append(w.Sources, fmt.Sprintf("deb [%s] %s/%s %s main", options, w.URL, suite, suite))
	w.Write("etc/apt/sources.list", strings.Join(w.Sources, "\n")+"\n")
}

// Trust configures a suite whose key is archive.
func (w *World) Trust(suite string) { w.Source(suite, "signed-by="+w.Path("archive.asc")) }

// Have writes packages down as installed.
func (w *World) Have(stanzas ...string) {
	var text strings.Builder
	for _, s := range stanzas {
		name, version, _ := strings.Cut(s, " ")
		status := "install ok installed"
		if rest, held := strings.CutSuffix(version, " hold"); held {
			version, status = rest, "hold ok installed"
		}
		fmt.Fprintf(&text, "Package: %s\nStatus: %s\nPriority: optional\nSection: misc\nMaintainer: a <a@example.org>\nArchitecture: amd64\nVersion: %s\nDescription: x\n\n", name, status, version)
		w.Write("var/lib/dpkg/info/"+name+".list", "/.\n")
	}
	w.Write("var/lib/dpkg/status", text.String())
	w.Touch("var/lib/dpkg/status") // apt takes its cache for fresh where the file has the second and the size that it had
}

// Install has the world's own dpkg install packages. They may be patched for real then: maintainers' scripts run on this machine,
// with the world's root in DPKG_ROOT.
func (w *World) Install(debs ...Deb) {
	w.t.Helper()
	options := []string{"--root=" + w.Root, "--force-script-chrootless", "--log=" + w.Path("dpkg.log")}
	if conf := w.Read("apt.conf"); !strings.Contains(conf, "DPkg::Options") {
		w.Write("apt.conf", conf+"DPkg::Options { \""+strings.Join(options, "\"; \"")+"\"; };\n")
	}
	w.Make("debs")
	for _, d := range debs {
		w.Build("debs", d)
		w.Tool("dpkg", append(options, "-i", w.Path("debs/"+d.Name+"_"+d.Version+"_amd64.deb"))...)
	}
}

// Installed is the version of a package that dpkg says is there, with its state where that is another than installed.
func (w *World) Installed(name string) string {
	w.t.Helper()
	out := w.Tool("dpkg-query", "--admindir="+w.Path("var/lib/dpkg"), "-W", "-f", "${Package} ${Version} ${db:Status-Status}\n")
	for line := range strings.Lines(out) {
		if part := strings.Fields(line); part[0] == name && len(part) == 3 {
			return strings.TrimSuffix(part[1]+" "+part[2], " installed")
		}
	}
	return ""
}

// Lock holds a file's lock, as apt and dpkg do, in a process of its own until it is released.
func (w *World) Lock(name string) (release func()) {
	w.t.Helper()
	_, release = w.LockedBy(name)
	return release
}

// LockedBy is Lock, and says which process holds it.
func (w *World) LockedBy(name string) (pid int, release func()) {
	w.t.Helper()
	const hold = "import fcntl, sys\nf = open(sys.argv[1], 'w')\nfcntl.lockf(f, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()"
	cmd := exec.Command("python3", "-c", hold, w.Path(name))
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, len("held\n"))); err != nil {
		w.t.Fatal(err)
	}
	return cmd.Process.Pid, sync.OnceFunc(func() { in.Close(); _ = cmd.Wait() })
}

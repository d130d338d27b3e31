//go:build root

package apt

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/status/packages"
)

// world is a root of apt's own, with archives that are signed here and served over loopback.
type world struct {
	t    *testing.T
	root string
	gpg  string
	url  string
	apt  *Apt
	now  time.Time
	list []string
	// touched counts the times that were given to files.
	touched int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Now().UTC().Truncate(time.Second)}
	var err error
	// Not t.TempDir: apt reads commas in the name of a key's file as more names.
	if w.root, err = os.MkdirTemp("", "apt-root-"); err != nil {
		t.Fatal(err)
	}
	if w.gpg, err = os.MkdirTemp("/tmp", "gpg-"); err != nil { // short: its agent's socket lies there
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.tool("gpgconf", "--kill", "gpg-agent")
		os.RemoveAll(w.gpg)
		os.RemoveAll(w.root)
	})
	for _, dir := range []string{
		"etc/apt/sources.list.d", "etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "var/lib/apt/lists/partial",
		"var/lib/dpkg/info", "var/lib/dpkg/updates", "var/cache/apt/archives/partial", "srv",
	} {
		w.make(dir)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(w.root, "srv"))))
	t.Cleanup(server.Close)
	w.url = server.URL
	w.write("apt.conf", fmt.Sprintf("Dir %q;\nDir::State::status %q;\nDir::Bin::methods \"/usr/lib/apt/methods\";\nAPT::Sandbox::User \"root\";\n"+
		"Acquire::http::Proxy \"DIRECT\";\nAcquire::Languages \"none\";\nAPT::Architecture \"amd64\";\nAPT::Architectures { \"amd64\"; };\n",
		w.root, w.path("var/lib/dpkg/status")))
	w.write("var/lib/dpkg/status", "")
	w.key("archive")
	w.apt = &Apt{
		Memory: packages.NewMemory(w.path("memory.json")), MaxAge: 7 * 24 * time.Hour, Config: w.path("apt.conf"),
		Now: func() time.Time { return w.now }, Advisories: w.path("advisories"),
	}
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.root, name) }

func (w *world) make(dir string) {
	w.t.Helper()
	if err := os.MkdirAll(w.path(dir), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) write(name, text string) {
	w.t.Helper()
	w.make(filepath.Dir(name))
	if err := os.WriteFile(w.path(name), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(name string) string {
	w.t.Helper()
	data, err := os.ReadFile(w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

func (w *world) tool(name string, args ...string) string {
	w.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+w.gpg, "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%s %v: %v\n%s\n%v", name, args, err, out, err)
	}
	return string(out)
}

// key makes a key of that name, and exports it to NAME.asc.
func (w *world) key(name string) {
	w.t.Helper()
	w.tool("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", name+"@example.org", "rsa2048", "sign", "never")
	w.write(name+".asc", w.tool("gpg", "--batch", "--armor", "--export", name+"@example.org"))
}

// archive is one suite.
type archive struct {
	suite, label string
	date, until  time.Time
	key          string // empty: unsigned
	detached     bool
	packages     []deb
}

// deb is a package.
type deb struct {
	name, version, source, depends, changelog string
}

// good is an archive that holds to every rule, with one newer package.
func (w *world) good() archive {
	return archive{
		suite: "stable", label: "Debian", date: w.now.Add(-time.Hour), until: w.now.Add(7 * 24 * time.Hour), key: "archive",
		packages: []deb{{name: "tool", version: "2.0-1"}},
	}
}

// publish makes the archive below srv/SUITE, in place of what was there.
func (w *world) publish(a archive) {
	w.t.Helper()
	top := "srv/" + a.suite
	if err := os.RemoveAll(w.path(top)); err != nil {
		w.t.Fatal(err)
	}
	w.make(top + "/pool")
	for _, d := range a.packages {
		w.build(top+"/pool", d)
	}
	dist := top + "/dists/" + a.suite
	cmd := exec.Command("apt-ftparchive", "packages", "pool")
	cmd.Dir = w.path(top)
	index, err := cmd.Output()
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(dist+"/main/binary-amd64/Packages", string(index))
	w.tool("xz", "-k", w.path(dist+"/main/binary-amd64/Packages"))
	w.sign(dist, a, w.tool("apt-ftparchive", "-o", "APT::FTPArchive::Release::Suite="+a.suite, "-o", "APT::FTPArchive::Release::Codename="+a.suite,
		"-o", "APT::FTPArchive::Release::Origin=Debian", "-o", "APT::FTPArchive::Release::Label="+a.label, "-o", "APT::FTPArchive::Release::Components=main",
		"-o", "APT::FTPArchive::Release::Architectures=amd64", "release", w.path(dist)))
}

var dateLine = regexp.MustCompile(`(?m)^Date: .*\n`)

// sign writes the Release file with the archive's dates, and signs it as the archive says.
func (w *world) sign(dist string, a archive, text string) {
	w.t.Helper()
	dates := "Date: " + a.date.Format("Mon, 02 Jan 2006 15:04:05 UTC") + "\n"
	if !a.until.IsZero() {
		dates += "Valid-Until: " + a.until.Format("Mon, 02 Jan 2006 15:04:05 UTC") + "\n"
	}
	w.write(dist+"/Release", dateLine.ReplaceAllString(text, dates))
	release, args := w.path(dist+"/Release"), []string{"--batch", "--quiet", "--yes", "-u", a.key + "@example.org"}
	switch {
	case a.key == "":
	case a.detached:
		w.tool("gpg", append(args, "--armor", "--detach-sign", "-o", release+".gpg", release)...)
	default:
		w.tool("gpg", append(args, "--clearsign", "-o", w.path(dist+"/InRelease"), release)...)
		os.Remove(release)
		w.touch(dist + "/InRelease")
	}
}

// touch gives a file a time that none had before, so that apt reads it again.
func (w *world) touch(file string) {
	w.t.Helper()
	w.touched++
	if err := os.Chtimes(w.path(file), w.now, w.now.Add(time.Duration(w.touched)*time.Minute)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) build(pool string, d deb) {
	w.t.Helper()
	tree := w.t.TempDir()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: a <a@example.org>\nDescription: %s\n", d.name, d.version, d.name)
	for field, value := range map[string]string{"Source": d.source, "Depends": d.depends} {
		if value != "" {
			control += field + ": " + value + "\n"
		}
	}
	files := map[string]string{"DEBIAN/control": control}
	if d.changelog != "" {
		files["usr/share/doc/"+d.name+"/changelog.Debian"] = d.changelog
	}
	for name, text := range files {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	if d.changelog != "" {
		w.tool("gzip", "-n", filepath.Join(tree, "usr/share/doc", d.name, "changelog.Debian"))
	}
	if err := os.Chmod(tree, 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.tool("dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, w.path(pool))
}

// source configures a suite, with the options of its line.
func (w *world) source(suite, options string) {
	w.list = append(w.list, fmt.Sprintf("deb [%s] %s/%s %s main", options, w.url, suite, suite))
	w.write("etc/apt/sources.list", strings.Join(w.list, "\n")+"\n")
}

func (w *world) trust(suite string) { w.source(suite, "signed-by="+w.path("archive.asc")) }

// have writes packages down as installed.
func (w *world) have(stanzas ...string) {
	var text strings.Builder
	for _, s := range stanzas {
		name, version, _ := strings.Cut(s, " ")
		status := "install ok installed"
		if rest, held := strings.CutSuffix(version, " hold"); held {
			version, status = rest, "hold ok installed"
		}
		fmt.Fprintf(&text, "Package: %s\nStatus: %s\nPriority: optional\nSection: misc\nMaintainer: a <a@example.org>\nArchitecture: amd64\nVersion: %s\nDescription: x\n\n", name, status, version)
		w.write("var/lib/dpkg/info/"+name+".list", "/.\n")
	}
	w.write("var/lib/dpkg/status", text.String())
	w.touch("var/lib/dpkg/status") // apt takes its cache for fresh where the file has the second and the size that it had
}

func (w *world) refresh() {
	w.t.Helper()
	if err := w.apt.Refresh(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) collect() *packages.Inventory {
	w.t.Helper()
	inventory, err := w.apt.Collect(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return inventory
}

// only is the one update that there must be.
func only(t *testing.T, inventory *packages.Inventory) *drydockv1.PackageUpdate {
	t.Helper()
	if len(inventory.Status.Updates) != 1 {
		t.Fatalf("updates: %v; sources: %v", inventory.Status.Updates, inventory.Status.Sources)
	}
	return inventory.Status.Updates[0]
}

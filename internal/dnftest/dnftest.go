//go:build root

// Package dnftest makes roots of dnf's own for tests, with repositories that are signed here and served over loopback. Real dnf and
// rpm work in them; the machine's own packages are not touched.
package dnftest

import (
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
)

// World is a root of dnf's own, with repositories that are signed here and served over loopback.
type World struct {
	t *testing.T
	// Top holds everything, Root is where packages are installed.
	Top, Root string
	gpg, URL  string
	Now       time.Time
}

// New makes one with nothing installed, no repositories, and a key named repo.
func New(t *testing.T) *World {
	t.Helper()
	w := &World{t: t, Now: time.Now().UTC(), Top: t.TempDir()}
	var err error
	if w.gpg, err = os.MkdirTemp("/tmp", "gpg-"); err != nil { // short: its agent's socket lies there
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Tool("gpgconf", "--kill", "gpg-agent")
		os.RemoveAll(w.gpg)
	})
	w.Root = w.Path("root")
	w.Make("srv")
	w.Make("root/var/log")
	server := httptest.NewServer(http.FileServer(http.Dir(w.Path("srv"))))
	t.Cleanup(server.Close)
	w.URL = server.URL
	w.Write("dnf.conf", "[main]\nplugins=0\nreposdir="+w.Path("repos.d")+"\n")
	w.Key("repo")
	w.Tool("rpm", "--root", w.Root, "--initdb")
	return w
}

// Config is dnf's configuration file, Release the release of the root.
func (w *World) Config() string { return w.Path("dnf.conf") }

// Release is what dnf is told that the root is.
const Release = "1"

// Path is a path in it.
func (w *World) Path(name string) string { return filepath.Join(w.Top, name) }

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
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// Key makes a key of that name, and exports it to NAME.asc.
func (w *World) Key(name string) {
	w.t.Helper()
	w.Tool("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", name+"@example.org", "rsa2048", "sign", "never")
	w.Write(name+".asc", w.Tool("gpg", "--batch", "--armor", "--export", name+"@example.org"))
}

// RPM is a package of no architecture and release 1.
type RPM struct {
	Name, Version string
	// More are more lines of its head, such as Requires.
	More string
	// Files are its files by path, without the first slash. Those in etc are configuration files, and Directive says of which kind.
	Files     map[string]string
	Directive string
	// Scripts are its scriptlets by name: post and the like, for the root's shell.
	Scripts map[string]string
	// Key signs it; empty: unsigned.
	Key string
}

// Build makes a package file, and returns where it lies.
func (w *World) Build(r RPM) string {
	w.t.Helper()
	var spec, files strings.Builder
	tree := w.t.TempDir()
	for name, text := range r.Files {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			w.t.Fatal(err)
		}
		if strings.HasPrefix(name, "etc/") {
			files.WriteString(r.Directive + " ")
		}
		files.WriteString("/" + name + "\n")
	}
	fmt.Fprintf(&spec, "Name: %s\nVersion: %s\nRelease: 1\nSummary: x\nLicense: MIT\nBuildArch: noarch\n%s\n%%description\nx\n", r.Name, r.Version, r.More)
	fmt.Fprintf(&spec, "%%install\nmkdir -p %%{buildroot}\ncp -a %s/. %%{buildroot}/\n", tree)
	for name, text := range r.Scripts {
		fmt.Fprintf(&spec, "%%%s\n%s\n", name, text)
	}
	fmt.Fprintf(&spec, "%%files\n%s", &files)
	w.Write(r.Name+".spec", spec.String())
	w.Tool("rpmbuild", "-bb", "--quiet", "--define", "_topdir "+w.Path("build"), "--define", "_rpmdir "+w.Path("rpms"),
		"--define", "__os_install_post %{nil}", w.Path(r.Name+".spec"))
	file := w.Path(fmt.Sprintf("rpms/noarch/%s-%s-1.noarch.rpm", r.Name, r.Version))
	if r.Key != "" {
		// Debian's rpm asks for gpg2, which is another package's second name of gpg.
		w.Tool("rpmsign", "--define", "__gpg /usr/bin/gpg", "--define", "_gpg_name "+r.Key+"@example.org", "--addsign", file)
	}
	return file
}

// Have writes packages down as installed.
func (w *World) Have(rpms ...RPM) {
	w.t.Helper()
	for _, r := range rpms {
		w.Tool("rpm", "--root", w.Root, "-i", "--nodeps", "--justdb", "--force", w.Build(r))
	}
}

// Install has rpm install packages in the root.
func (w *World) Install(rpms ...RPM) {
	w.t.Helper()
	for _, r := range rpms {
		w.Tool("rpm", "--root", w.Root, "-i", w.Build(r))
	}
}

var library = regexp.MustCompile(`/\S+`)

// Shell puts a shell and sleep into the root, so that scriptlets run there.
func (w *World) Shell() {
	w.t.Helper()
	for _, program := range []string{"/bin/sh", "/bin/sleep"} {
		for _, file := range append(library.FindAllString(w.Tool("ldd", program), -1), program) {
			data, err := os.ReadFile(file)
			if err != nil {
				w.t.Fatal(err)
			}
			w.Write("root"+file, string(data))
			if err := os.Chmod(w.Path("root"+file), 0o755); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	w.Have(RPM{Name: "shell", Version: "1", More: "Provides: /bin/sh"})
}

// Publish makes a repository of package files, with advisories where there are any, and signs it where there is a key.
func (w *World) Publish(id, updateinfo, key string, files ...string) {
	w.t.Helper()
	dir := "srv/" + id
	if err := os.RemoveAll(w.Path(dir)); err != nil {
		w.t.Fatal(err)
	}
	w.Make(dir)
	for _, file := range files {
		w.Tool("cp", file, w.Path(dir))
	}
	w.Tool("createrepo_c", "--quiet", "--no-database", w.Path(dir))
	if updateinfo != "" {
		w.Write("updateinfo.xml", updateinfo)
		w.Tool("modifyrepo_c", "--mdtype=updateinfo", w.Path("updateinfo.xml"), w.Path(dir+"/repodata"))
	}
	w.Sign(id, key)
}

// Sign signs a repository's list of files.
func (w *World) Sign(id, key string) {
	w.t.Helper()
	if key != "" {
		w.Tool("gpg", "--batch", "--yes", "-u", key+"@example.org", "--armor", "--detach-sign", w.Path("srv/"+id+"/repodata/repomd.xml"))
	}
}

// Configure configures a repository, with more lines of its section.
func (w *World) Configure(id, more string) {
	w.t.Helper()
	w.Write("repos.d/"+id+".repo", fmt.Sprintf("[%s]\nname=%s\nbaseurl=%s/%s\n%s\n", id, id, w.URL, id, more))
}

// Trust configures a repository as it should be.
func (w *World) Trust(id string) {
	w.t.Helper()
	w.Configure(id, "repo_gpgcheck=1\ngpgcheck=0\ngpgkey=file://"+w.Path("repo.asc"))
}

// Cached is a file of the repository as dnf keeps it.
func (w *World) Cached(id, pattern string) string {
	w.t.Helper()
	found, err := filepath.Glob(filepath.Join(w.Root, "var/cache/dnf", id+"-*", "repodata", pattern))
	if err != nil || len(found) != 1 {
		w.t.Fatalf("%s of %s in dnf's cache: %v, %v", pattern, id, found, err)
	}
	return found[0]
}

// Replace exchanges the first occurrence of a text in a file.
func (w *World) Replace(file, from, to string) {
	w.t.Helper()
	data, err := os.ReadFile(file)
	if err == nil && !strings.Contains(string(data), from) {
		w.t.Fatalf("%s lacks %q", file, from)
	}
	if err == nil {
		err = os.WriteFile(file, []byte(strings.Replace(string(data), from, to, 1)), 0o644)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// Installed are the versions of a package that rpm has, without their release.
func (w *World) Installed(name string) string {
	w.t.Helper()
	var versions []string
	for line := range strings.Lines(w.Tool("rpm", "--root", w.Root, "-qa", "--qf", "%{NAME} %{VERSION}\n")) {
		if have, version, _ := strings.Cut(strings.TrimSpace(line), " "); have == name {
			versions = append(versions, version)
		}
	}
	return strings.Join(versions, " ")
}

//go:build root

package dnf

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/status/packages"
)

// world is an install root with repositories that are signed here and served over loopback.
type world struct {
	t         *testing.T
	top, root string
	gpg, url  string
	dnf       *Dnf
	now       time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Now().UTC(), top: t.TempDir()}
	var err error
	if w.gpg, err = os.MkdirTemp("/tmp", "gpg-"); err != nil { // short: its agent's socket lies there
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.tool("gpgconf", "--kill", "gpg-agent")
		os.RemoveAll(w.gpg)
	})
	w.root = w.path("root")
	w.make("srv")
	w.make("root/var/log")
	server := httptest.NewServer(http.FileServer(http.Dir(w.path("srv"))))
	t.Cleanup(server.Close)
	w.url = server.URL
	w.write("dnf.conf", "[main]\nplugins=0\nreposdir="+w.path("repos.d")+"\n")
	w.key("repo")
	w.tool("rpm", "--root", w.root, "--initdb")
	w.dnf = &Dnf{
		Memory: packages.NewMemory(w.path("memory.json")), MaxAge: 7 * 24 * time.Hour, Now: func() time.Time { return w.now },
		Config: w.path("dnf.conf"), Root: w.root, Release: "1",
	}
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.top, name) }

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

func (w *world) tool(name string, args ...string) string {
	w.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+w.gpg, "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func (w *world) key(name string) {
	w.t.Helper()
	w.tool("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", name+"@example.org", "rsa2048", "sign", "never")
	w.write(name+".asc", w.tool("gpg", "--batch", "--armor", "--export", name+"@example.org"))
}

// rpm builds a package and returns where it lies.
func (w *world) rpm(name, version, more string) string {
	w.t.Helper()
	w.write(name+".spec", fmt.Sprintf("Name: %s\nVersion: %s\nRelease: 1\nSummary: x\nLicense: MIT\nBuildArch: noarch\n%s\n%%description\nx\n%%files\n", name, version, more))
	w.tool("rpmbuild", "-bb", "--quiet", "--define", "_topdir "+w.path("build"), "--define", "_rpmdir "+w.path("rpms"), w.path(name+".spec"))
	return w.path(fmt.Sprintf("rpms/noarch/%s-%s-1.noarch.rpm", name, version))
}

func (w *world) install(name, version, more string) {
	w.t.Helper()
	w.tool("rpm", "--root", w.root, "-i", "--nodeps", "--justdb", "--force", w.rpm(name, version, more))
}

// publish makes a repository of packages, with advisories where there are any, and signs it where there is a key.
func (w *world) publish(id, updateinfo, key string, rpms ...string) {
	w.t.Helper()
	dir := "srv/" + id
	if err := os.RemoveAll(w.path(dir)); err != nil {
		w.t.Fatal(err)
	}
	w.make(dir)
	for _, file := range rpms {
		w.tool("cp", file, w.path(dir))
	}
	w.tool("createrepo_c", "--quiet", "--no-database", w.path(dir))
	if updateinfo != "" {
		w.write("updateinfo.xml", updateinfo)
		w.tool("modifyrepo_c", "--mdtype=updateinfo", w.path("updateinfo.xml"), w.path(dir+"/repodata"))
	}
	w.sign(id, key)
}

func (w *world) sign(id, key string) {
	w.t.Helper()
	if key != "" {
		w.tool("gpg", "--batch", "--yes", "-u", key+"@example.org", "--armor", "--detach-sign", w.path("srv/"+id+"/repodata/repomd.xml"))
	}
}

func (w *world) configure(id, more string) {
	w.write("repos.d/"+id+".repo", fmt.Sprintf("[%s]\nname=%s\nbaseurl=%s/%s\n%s\n", id, id, w.url, id, more))
}

// trust configures a repository as it should be.
func (w *world) trust(id string) {
	w.configure(id, "repo_gpgcheck=1\ngpgcheck=0\ngpgkey=file://"+w.path("repo.asc"))
}

func (w *world) refresh() {
	w.t.Helper()
	if err := w.dnf.Refresh(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) collect() *packages.Inventory {
	w.t.Helper()
	inventory, err := w.dnf.Collect(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return inventory
}

func only(t *testing.T, inventory *packages.Inventory) *drydockv1.PackageUpdate {
	t.Helper()
	if len(inventory.Status.Updates) != 1 {
		t.Fatalf("%v", inventory.Status)
	}
	return inventory.Status.Updates[0]
}

// cached is a file of the repository as dnf keeps it.
func (w *world) cached(id, pattern string) string {
	w.t.Helper()
	found, err := filepath.Glob(filepath.Join(w.root, "var/cache/dnf", id+"-*", "repodata", pattern))
	if err != nil || len(found) != 1 {
		w.t.Fatalf("%s of %s in dnf's cache: %v, %v", pattern, id, found, err)
	}
	return found[0]
}

func replace(t *testing.T, file, from, to string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil && !strings.Contains(string(data), from) {
		t.Fatalf("%s lacks %q", file, from)
	}
	if err == nil {
		err = os.WriteFile(file, []byte(strings.Replace(string(data), from, to, 1)), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

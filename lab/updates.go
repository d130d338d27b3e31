package lab

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drydock/lab/repository"
)

// Updates says what a lab's hosts lack. Where it is anything, they are made as Debian's last point release left them.
type Updates struct {
	// Mirror: hosts take updates from the mirror that this machine uses. What is pending is what Debian has published
	// since its last point release; on some days that is nothing.
	Mirror bool `json:"mirror,omitempty"`
	// Own: hosts take updates from an archive of the lab's own, with newer builds of two packages that they have: of
	// libc6, after which a host must reboot, and of iputils-ping.
	Own bool `json:"own,omitempty"`
}

// ParseUpdates reads none, mirror, own, or mirror,own.
func ParseUpdates(list string) (Updates, error) {
	var u Updates
	if list == "none" {
		return u, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		switch name {
		case "mirror":
			u.Mirror = true
		case "own":
			u.Own = true
		default:
			return u, fmt.Errorf("updates %q: use none, mirror, own, or mirror,own", name)
		}
	}
	return u, nil
}

// Pending tells whether hosts lack anything.
func (u Updates) Pending() bool { return u.Mirror || u.Own }

// The packages that the lab's own archive has newer builds of, and where they lie in the root of hosts.
func ownPackages() []string { return []string{"iputils-ping", "libc6"} }

const (
	ownPool   = "/usr/src/drydock-lab"
	ownSuffix = "+drydock1"
	ownSuite  = "lab-security"
	ownLabel  = "Drydock-Lab-Security"
	ownKey    = "/etc/apt/keyrings/drydock-lab.asc"
	// ownValid is longer than anybody keeps a lab.
	ownValid = 30 * 24 * time.Hour
)

// keepPackages is the hook that leaves the package files in the root from which newer ones are made.
func keepPackages() string {
	return fmt.Sprintf(`mkdir -p "$1%[1]s" && cd "$1%[1]s" && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get download -qq %[2]s && chown root: *.deb`,
		ownPool, strings.Join(ownPackages(), " "))
}

// rebuildPackages makes the newer builds beside the older ones.
func rebuildPackages(ctx context.Context, root string) error {
	pool := filepath.Join(root, ownPool)
	older, err := filepath.Glob(filepath.Join(pool, "*.deb"))
	if err != nil {
		return err
	}
	if len(older) != len(ownPackages()) {
		return fmt.Errorf("%s holds %v, expected %v", pool, older, ownPackages())
	}
	for _, deb := range older {
		if _, err := repository.Rebuild(ctx, deb, pool, ownSuffix, nil); err != nil {
			return err
		}
	}
	return nil
}

// RepositoryDir is where on the machine the lab's own archive lies, if it has one: package files in pool, indexes in dists.
func (l *Lab) RepositoryDir() string { return l.nodeDir(PackagesNode, "repository") }

// ownArchive is the lab's own archive, with a new key.
func (l *Lab) ownArchive() (repository.Archive, error) {
	now := time.Now().UTC().Truncate(time.Second)
	key, err := repository.NewKey(now)
	return repository.Archive{
		Dir: l.RepositoryDir(), Suite: ownSuite, Label: ownLabel, Key: key, Date: now.Add(-time.Minute), Until: now.Add(ownValid),
	}, err
}

// Rekey is the lab's own archive, for whoever wants to publish something else in it. The key that it had is forgotten, so it is a new
// one: the hosts that are named know it from now on, also after a reboot, and no other does.
func (l *Lab) Rekey(hosts ...string) (repository.Archive, error) {
	a, err := l.ownArchive()
	if err != nil {
		return a, err
	}
	return a, l.Trust(a, hosts...)
}

// Trust has hosts know the key of the lab's own archive.
func (l *Lab) Trust(a repository.Archive, hosts ...string) error {
	key, err := a.Key.Public()
	if err != nil {
		return err
	}
	for _, host := range hosts {
		var s spec
		if err := readJSON(l.specPath(host), &s); err != nil {
			return err
		}
		s.Files[ownKey] = key
		root, err := l.Root(host)
		if err == nil {
			err = errors.Join(writeJSON(l.specPath(host), s), os.WriteFile(filepath.Join(root, ownKey), []byte(key), 0o644))
		}
		if err != nil {
			return fmt.Errorf("host %s: give it the archive's key: %w", host, err)
		}
	}
	return nil
}

// publish makes the lab's own archive out of what lies in the hosts' root, and returns the public half of its key.
func (l *Lab) publish(ctx context.Context, root string) (key string, err error) {
	a, err := l.ownArchive()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(a.Pool(), 0o755); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(root, ownPool, "*.deb"))
	for _, deb := range debs {
		err = errors.Join(err, copyFile(deb, filepath.Join(a.Pool(), filepath.Base(deb)), 0o644))
	}
	if err != nil {
		return "", fmt.Errorf("the lab's own archive: %w", err)
	}
	if err := a.Publish(ctx); err != nil {
		return "", err
	}
	return a.Key.Public()
}

// updateFiles is what a host's apt reads, with the lab's own archive made where it is wanted; none where hosts lack nothing.
func (u *up) updateFiles(ctx context.Context) (files map[string]string, err error) {
	if !u.opts.Updates.Pending() {
		return nil, nil
	}
	// Served from here also where it holds nothing.
	if err := os.MkdirAll(u.lab.RepositoryDir(), 0o755); err != nil {
		return nil, err
	}
	var m mirror
	if u.opts.Updates.Mirror {
		if m, err = machineMirror(ctx); err != nil {
			return nil, err
		}
		if err := errors.Join(reachable(m.archive), reachable(m.security)); err != nil {
			return nil, err
		}
	}
	var key string
	if u.opts.Updates.Own {
		if key, err = u.lab.publish(ctx, u.root); err != nil {
			return nil, err
		}
	}
	return aptFiles(u.opts.Updates, m, key), nil
}

const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// aptFiles is how hosts' apt finds its sources: the mirror through the proxy, the lab's own archive at the proxy's node.
func aptFiles(u Updates, m mirror, key string) map[string]string {
	var sources strings.Builder
	if u.Mirror {
		fmt.Fprintf(&sources, "deb [signed-by=%[1]s] %[2]s %[4]s main\ndeb [signed-by=%[1]s] %[3]s %[4]s-security main\n",
			debianKeyring, proxied(m.archive), proxied(m.security), BaseSuite)
	}
	files := map[string]string{
		"/etc/apt/apt.conf.d/99drydock-lab": fmt.Sprintf("Acquire::http::Proxy %q;\nAcquire::http::Proxy::%s \"DIRECT\";\nAcquire::Languages \"none\";\n",
			"http://"+proxyAddress, packagesAddr),
	}
	if u.Own {
		sources.WriteString(repository.Archive{Suite: ownSuite}.Line(ownKey, "http://"+proxyAddress+"/"+ownPath))
		files[ownKey] = key
	}
	files["/etc/apt/sources.list"] = sources.String()
	return files
}

// reachable refuses a mirror that apt-cacher-ng does not reach: 3.7.5 fails to look up any port but those that everybody uses.
func reachable(mirror string) error {
	at, err := url.Parse(mirror)
	if err == nil && at.Port() != "" && at.Port() != "80" {
		err = fmt.Errorf("apt-cacher-ng cannot ask the mirror %s at its port: name one without in this machine's apt, or use own updates", mirror)
	}
	return err
}

// proxied is a mirror's address as hosts ask the proxy for it: without TLS, which could not be cached. What they get is signed.
func proxied(mirror string) string {
	if rest, is := strings.CutPrefix(mirror, "https://"); is {
		return "http://" + rest
	}
	return mirror
}

// Package images builds the container images that the demo, the soak, the fault runs and the benchmarks put into pods.
//
// All images stand on one Debian root that mmdebstrap makes, so they share their large layer. What is built is kept in a
// cache directory under the hash of everything that went into it, and built again only when that changes. An archive in
// the cache is always whole: it appears there by a rename.
package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Names of the images in a Set.
const (
	Redis     = "redis"     // redis-server on port 6379, nothing saved to disk
	Postgres  = "postgres"  // PostgreSQL on port 5432, data in PostgresData
	Nginx     = "nginx"     // nginx on port 8080 with /data.bin
	Workbench = "workbench" // a shell and the self-checking program
)

// PostgresData is the directory of the postgres image that a volume may stand for. It belongs to the user postgres, and
// so must the volume.
const PostgresData = "/var/lib/postgresql/data"

// setsKept is how long an unused set of archives stays in the cache.
const setsKept = 24 * time.Hour

// Set is a complete set of images in the cache.
type Set struct {
	dir  string
	root string
}

// DefaultCache is where images are kept on a machine.
const DefaultCache = "/var/cache/drydock/images"

// Build returns the images of this source tree, making what the cache directory lacks. It needs root, installs mmdebstrap
// with apt if that is missing, compiles the self-checking program with the go command and must therefore be called
// somewhere inside the source tree. Lines about what it is doing go to progress. Builds that share a cache directory wait
// for each other; an interrupted one leaves nothing that a later one would use.
func Build(ctx context.Context, cacheDir string, progress io.Writer) (Set, error) {
	if os.Geteuid() != 0 {
		return Set{}, errors.New("images: building needs root: run it with sudo")
	}
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return Set{}, fmt.Errorf("images: make the cache: %w", err)
	}
	unlock, err := lockDir(ctx, cacheDir)
	if err != nil {
		return Set{}, err
	}
	defer unlock()
	if err := removeUnfinished(cacheDir); err != nil {
		return Set{}, err
	}
	base, err := ensureRoot(ctx, cacheDir, progress)
	if err != nil {
		return Set{}, err
	}
	set, err := ensureSet(ctx, cacheDir, base, progress)
	if err != nil {
		return Set{}, err
	}
	return set, removeOldSets(cacheDir, set.dir)
}

// Path returns the OCI archive of the named image. The file may not exist if there is no image of that name.
func (s Set) Path(name string) string { return filepath.Join(s.dir, name+".tar") }

// Reference returns the name that the archive of the named image carries, as containerd sees it after an import.
func (s Set) Reference(name string) string { return reference(name) }

// Names lists the images of the set.
func (s Set) Names() []string {
	var names []string
	for _, r := range recipes() {
		names = append(names, r.name)
	}
	sort.Strings(names)
	return names
}

// Root returns the Debian root under all images, for running a program of it without a container. It must not be written to.
func (s Set) Root() string { return s.root }

// lockDir waits until no other build uses the cache directory.
func lockDir(ctx context.Context, dir string) (func(), error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("images: lock the cache: %w", err)
	}
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("images: lock %s: %w", dir, err)
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, fmt.Errorf("images: wait for another build in %s: %w", dir, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// removeUnfinished deletes what an interrupted build left. The caller holds the lock. Mounts of such a build went with
// its mount namespace.
func removeUnfinished(cacheDir string) error {
	left, err := filepath.Glob(filepath.Join(cacheDir, "unfinished-*"))
	if err != nil {
		return fmt.Errorf("images: %w", err)
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("images: remove what an interrupted build left in %s: %w", dir, err)
		}
	}
	return nil
}

// removeOldSets deletes the sets, other than the one in keep, that nobody asked for in a while, and layouts that an
// interrupted Unpack left.
func removeOldSets(cacheDir, keep string) error {
	entries, err := os.ReadDir(cacheDir)
	if err != nil {
		return fmt.Errorf("images: %w", err)
	}
	for _, entry := range entries {
		dir := filepath.Join(cacheDir, entry.Name())
		kind, _, _ := strings.Cut(entry.Name(), "-")
		info, err := entry.Info()
		if err != nil || dir == keep || kind != "set" && kind != "layout" || time.Since(info.ModTime()) < setsKept {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("images: remove the unused %s: %w", dir, err)
		}
	}
	return nil
}

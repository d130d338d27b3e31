package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/transfer"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// A restore is started before the freeze, so that no client waits while runc and CRIU start: the first image that CRIU
// reads, its inventory, is a FIFO until everything has arrived. Where another runc or CRIU does not wait there, the restore
// fails before the pod is frozen, and the migration is given up.

const (
	inventory   = "inventory.img"
	descriptors = "descriptors.json"
)

// early is a restore that waits for its images.
type early struct {
	// feeds are the writing ends of the inventories' FIFOs, by container. CRIU has opened the other ends.
	feeds map[string]*os.File
	// fifos are where a CRIU may have yet to come to its inventory.
	fifos []string
	// restores ends when CRIU has finished with every container; failed gets a value when it failed with one.
	restores *errgroup.Group
	failed   chan struct{}
}

// runRestores starts the restore of every container.
func (e *Engine) runRestores(ctx context.Context, spec *drydockv1.PodSpec, migration string) *early {
	r := &early{restores: new(errgroup.Group), failed: make(chan struct{}, 1), feeds: make(map[string]*os.File)}
	for _, c := range spec.Containers {
		r.restores.Go(func() error {
			err := e.Pods.RestoreTask(ctx, spec.Name, c.Name, e.restoreFrom(migration, c.Name))
			if err != nil {
				select {
				case r.failed <- struct{}{}:
				default:
				}
			}
			return err
		})
	}
	return r
}

// startEarly starts the restores and returns when every CRIU waits for its inventory. known has what runc wants to be told
// of the descriptors that a container has from outside.
func (e *Engine) startEarly(ctx context.Context, spec *drydockv1.PodSpec, migration string, known map[string][]byte) (*early, error) {
	for _, c := range spec.Containers {
		dir := e.restoreFrom(migration, c.Name).Images
		if err := os.WriteFile(filepath.Join(dir, descriptors), known[c.Name], 0o600); err != nil {
			return nil, err
		}
		if err := unix.Mkfifo(filepath.Join(dir, inventory), 0o600); err != nil && !errors.Is(err, syscall.EEXIST) {
			return nil, fmt.Errorf("make the FIFO of container %s: %w", c.Name, err)
		}
	}
	r := e.runRestores(context.WithoutCancel(ctx), spec, migration)
	for _, c := range spec.Containers {
		r.fifos = append(r.fifos, filepath.Join(e.restoreFrom(migration, c.Name).Images, inventory))
	}
	for i, c := range spec.Containers {
		path := r.fifos[i]
		feed, err := r.awaitReader(ctx, path)
		if err != nil {
			r.giveUp()
			return nil, errors.Join(fmt.Errorf("CRIU of container %s does not wait for its images: %w", c.Name, err), e.Pods.KillTasks(ctx, spec.Name), e.awaitReturned(spec.Name, r))
		}
		r.feeds[c.Name] = feed
	}
	return r, nil
}

func (r *early) awaitReader(ctx context.Context, path string) (*os.File, error) {
	for {
		feed, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil || !errors.Is(err, syscall.ENXIO) {
			return feed, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.failed:
			return nil, errors.New("the restore ended")
		case <-time.After(time.Millisecond):
		}
	}
}

// feed lets the restores go on: everything has arrived.
func (r *early) feed(images func(container string) string) error {
	for container, feed := range r.feeds {
		dir := images(container)
		told, err := os.ReadFile(filepath.Join(dir, descriptors))
		if err != nil {
			return err
		}
		sent, err := os.ReadFile(filepath.Join(dir, descriptors+transfer.Arrived))
		if err != nil {
			return err
		}
		if !bytes.Equal(bytes.TrimSpace(told), bytes.TrimSpace(sent)) {
			return fmt.Errorf("descriptors of container %s changed while it moved: %s, now %s", container, told, sent)
		}
		data, err := os.ReadFile(filepath.Join(dir, inventory+transfer.Arrived))
		if err != nil {
			return err
		}
		if err := settleImages(dir); err != nil {
			return err
		}
		if _, err := feed.Write(data); err != nil {
			return fmt.Errorf("hand CRIU the inventory of container %s: %w", container, err)
		}
		if err := feed.Close(); err != nil {
			return err
		}
		delete(r.feeds, container)
	}
	return nil
}

// settleImages gives what arrived beside a restore that waited its own name.
func settleImages(dir string) error {
	for _, name := range []string{inventory, descriptors} {
		err := os.Rename(filepath.Join(dir, name+transfer.Arrived), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// giveUp makes restores that still wait fail.
func (r *early) giveUp() {
	for container, feed := range r.feeds {
		_ = feed.Close()
		delete(r.feeds, container)
	}
	for _, path := range r.fifos {
		closeFIFO(path)
	}
	r.fifos = nil
}

// closeFIFO gives whoever waits at a FIFO its end, and whoever comes later no FIFO: a CRIU that is still starting when its
// restore is given up would wait there for ever. What has taken the FIFO's place is left alone.
func closeFIFO(path string) {
	if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		return
	}
	fifo, err := os.OpenFile(path, os.O_RDWR, 0) // lets readers that wait for a writer go on
	if err != nil {
		return
	}
	_ = os.Remove(path)
	_ = fifo.Close()
}

// endEarly makes restores that still wait fail, and waits for all.
func (e *Engine) endEarly(pod string, r *early) {
	if r == nil {
		return
	}
	r.giveUp()
	_ = e.awaitReturned(pod, r) // why one failed was said where it was waited for
}

// waits tells that no CRIU has been given its inventory, so that none has made a task.
func (r *early) waits(spec *drydockv1.PodSpec) bool {
	return r != nil && len(r.feeds) == len(spec.Containers)
}

package migrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"drydock/migrate/owner"
	"drydock/pods"

	"golang.org/x/sync/errgroup"
)

// A dump, too, is started before the freeze: runc and CRIU start while the pod runs, and CRIU waits in its pre-dump hook,
// where it has not looked at any task. One that is refused there leaves nothing behind.

// standby is the dumps of a pod's containers that wait, or run.
type standby struct {
	hooks []hook
	dumps errgroup.Group
	// ended gets a value for every dump that ends.
	ended chan error
}

// dumpHook is where the dump of a container waits.
func (e *Engine) dumpHook(migration, container string) hook {
	return hook{dir: filepath.Join(e.dir(migration), "dump", container)}
}

// standBy starts the dump of every container and returns when each waits.
func (m *move) standBy(ctx context.Context) error {
	s := &standby{ended: make(chan error, len(m.rec.Spec.Containers))}
	m.dumps = s
	for _, c := range m.rec.Spec.Containers {
		h, err := newHook(m.dumpHook(m.spec.Id, c.Name).dir)
		if err != nil {
			return err
		}
		s.hooks = append(s.hooks, h)
		if m.postcopy() {
			if err := m.offerPort(c.Name); err != nil {
				return err
			}
		}
		dump := pods.Dump{
			Images:  filepath.Join(m.dir(m.spec.Id), "images", c.Name),
			Work:    filepath.Join(m.dir(m.spec.Id), "work", c.Name),
			Options: []string{"action-script " + h.script()},
			Parent:  parentOf(c.Name, m.rounds),
		}
		for _, dir := range []string{dump.Images, dump.Work} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
		}
		s.dumps.Go(func() error {
			err := m.dumpOne(context.WithoutCancel(ctx), c.Name, dump)
			s.ended <- err
			return err
		})
	}
	return errors.Join(s.await(ctx), m.readyCatch(ctx))
}

// readyCatch makes what keeps the packets that still come here once the pod is unplugged.
func (m *move) readyCatch(ctx context.Context) error {
	net, err := m.Pods.Network(ctx, m.spec.Pod)
	if err != nil {
		return err
	}
	m.catch, err = net.Catch(ctx)
	return err
}

func (m *move) dumpOne(ctx context.Context, container string, dump pods.Dump) error {
	if !m.postcopy() {
		return m.Pods.Checkpoint(ctx, m.spec.Pod, container, dump)
	}
	return m.lazyCheckpoint(ctx, container, dump)
}

// await returns when every dump waits in its hook.
func (s *standby) await(ctx context.Context) error {
	for _, h := range s.hooks {
		for !h.waiting() {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case err := <-s.ended:
				return fmt.Errorf("a dump ended before the pod was frozen: %w", err)
			case <-time.After(time.Millisecond):
			}
		}
	}
	return nil
}

// goOn lets the dumps look at the pod, which is frozen, and returns when they have what they need of it.
func (s *standby) goOn(ctx context.Context) error {
	for _, h := range s.hooks {
		if err := h.answer(ctx, true); err != nil {
			return err
		}
	}
	return s.dumps.Wait()
}

// giveUp ends dumps that wait, and waits for those that run: CRIU is never killed while it has a parasite in a task.
func (s *standby) giveUp(ctx context.Context) error {
	if s == nil {
		return nil
	}
	var errs []error
	for _, h := range s.hooks {
		errs = append(errs, h.answer(ctx, false))
	}
	_ = s.dumps.Wait() // why a dump failed was said where it was waited for
	return errors.Join(errs...)
}

// standDown ends what standBy has made.
func (m *move) standDown(ctx context.Context) error {
	return errors.Join(m.dumps.giveUp(ctx), m.catch.Drop())
}

// endStandby refuses the dumps that an agent which is gone has left waiting.
func (e *Engine) endStandby(ctx context.Context, j owner.Journal) error {
	if j.Side != owner.Source || j.Migration == "" {
		return nil
	}
	dirs, err := filepath.Glob(e.dumpHook(j.Migration, "*").dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, hook{dir: dir}.answer(ctx, false))
	}
	return errors.Join(errs...)
}

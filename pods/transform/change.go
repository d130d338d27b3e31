package transform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	continuity "github.com/containerd/continuity/fs"
	"golang.org/x/sys/unix"

	"drydock/internal/durable"
)

// Change is what is done to one pod. Its methods may be called again after any error or kill, but not at the same time.
type Change struct {
	// Volumes holds the pod's volumes. Work is the change's own directory, on the same file system. Journal is a file that
	// says how far it is.
	Volumes, Work, Journal string
	// Install makes a specification the pod's. It must bear being called again.
	Install func(ctx context.Context, spec json.RawMessage) error
	// End ends a program that an earlier call has left running.
	End func(ctx context.Context) error
	// At is called at named points, where tests let faults happen. May be nil.
	At func(ctx context.Context, point string)
}

// Order is what a change is asked to do.
type Order struct {
	// ID is never used for another order of the pod.
	ID       string
	From, To json.RawMessage
	// Run changes what lies in a copy of the volumes; nil: they stay as they are.
	Run func(ctx context.Context, volumes string) error
}

// Do carries out an order. Where it fails before the commit, the old state is in force, and nothing is left of the try.
func (c Change) Do(ctx context.Context, o Order) error {
	j, err := c.load()
	if err != nil {
		return err
	}
	if j.ID != o.ID && j.ID != "" {
		if err := c.leave(ctx, j); err != nil {
			return err
		}
		j = journal{}
	}
	switch j.Stage {
	case reverting:
		return fmt.Errorf("%s is being taken back", o.ID)
	case settled:
		return nil
	case committed:
		return c.apply(ctx, j)
	}
	if err := c.prepare(ctx, o); err != nil {
		return errors.Join(err, c.discard(context.WithoutCancel(ctx)))
	}
	j = journal{ID: o.ID, Stage: committed, Files: o.Run != nil, From: o.From, To: o.To}
	if err := c.save(j); err != nil {
		return err
	}
	c.at(ctx, "transform-committed")
	return c.apply(ctx, j)
}

// Revert takes an order back, from wherever it is; one that was never begun is no error.
func (c Change) Revert(ctx context.Context, id string) error {
	j, err := c.load()
	if err != nil || j.ID != id {
		return err
	}
	switch j.Stage {
	case begun:
		return c.discard(ctx)
	case settled:
		return fmt.Errorf("%s is settled: what it would need to be taken back is gone", id)
	}
	j.Stage = reverting
	if err := c.save(j); err != nil {
		return err
	}
	c.at(ctx, "revert-decided")
	return c.unapply(ctx, j)
}

// Settle drops the state before the order. It cannot be taken back any more.
func (c Change) Settle(ctx context.Context, id string) error {
	j, err := c.load()
	if err != nil || j.ID != id {
		return err
	}
	switch j.Stage {
	case committed:
		if err := c.apply(ctx, j); err != nil {
			return err
		}
	case settled:
		return c.discard(ctx)
	default:
		return fmt.Errorf("%s cannot be settled: it is %s", id, j.Stage)
	}
	j.Stage = settled
	if err := c.save(j); err != nil {
		return err
	}
	c.at(ctx, "settle-decided")
	return c.discard(ctx)
}

// Finish puts into force what was decided and cut off. It must be called before the pod is started.
func (c Change) Finish(ctx context.Context) error {
	j, err := c.load()
	if err != nil {
		return err
	}
	switch j.Stage {
	case committed:
		return c.apply(ctx, j)
	case reverting:
		return c.unapply(ctx, j)
	}
	return nil
}

// Drop forgets everything of a pod that is removed.
func (c Change) Drop(ctx context.Context) error { return c.discard(ctx) }

// leave ends another order, which its upgrade has left behind.
func (c Change) leave(ctx context.Context, j journal) error {
	if err := c.Finish(ctx); err != nil {
		return err
	}
	if j.Stage == reverting {
		return nil
	}
	return c.discard(ctx)
}

// prepare makes the copy, and changes it.
func (c Change) prepare(ctx context.Context, o Order) error {
	if err := c.discard(ctx); err != nil {
		return err
	}
	if err := c.save(journal{ID: o.ID, Stage: begun}); err != nil {
		return err
	}
	c.at(ctx, "transform-begun")
	if o.Run == nil {
		return nil
	}
	for _, dir := range []string{c.Volumes, c.Work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := continuity.CopyDir(c.fresh(), c.Volumes); err != nil {
		return fmt.Errorf("copy the volumes: %w", err)
	}
	c.at(ctx, "transform-copied")
	if err := o.Run(ctx, c.fresh()); err != nil {
		return err
	}
	c.at(ctx, "transform-ran")
	if err := syncAll(c.Work); err != nil {
		return fmt.Errorf("bring the changed volumes to disk: %w", err)
	}
	c.at(ctx, "transform-synced")
	return nil
}

// fresh is where the changed volumes are until they are in force, and old where the others are after that.
func (c Change) fresh() string { return filepath.Join(c.Work, "new") }
func (c Change) old() string   { return filepath.Join(c.Work, "old") }

// apply puts the new state into force. What lies where says how far an earlier call came.
func (c Change) apply(ctx context.Context, j journal) error {
	if j.Files && exists(c.fresh()) {
		if !exists(c.old()) {
			if err := c.rename(c.Volumes, c.old()); err != nil {
				return err
			}
		}
		c.at(ctx, "transform-aside")
		if err := c.rename(c.fresh(), c.Volumes); err != nil {
			return err
		}
		c.at(ctx, "transform-placed")
	}
	if err := c.Install(ctx, j.To); err != nil {
		return err
	}
	c.at(ctx, "transform-installed")
	return nil
}

// unapply puts the old state into force, and ends the order.
func (c Change) unapply(ctx context.Context, j journal) error {
	if j.Files && exists(c.old()) {
		if !exists(c.fresh()) && exists(c.Volumes) {
			if err := c.rename(c.Volumes, c.fresh()); err != nil {
				return err
			}
		}
		c.at(ctx, "revert-aside")
		if err := c.rename(c.old(), c.Volumes); err != nil {
			return err
		}
		c.at(ctx, "revert-placed")
	}
	if err := c.Install(ctx, j.From); err != nil {
		return err
	}
	c.at(ctx, "revert-installed")
	return c.discard(ctx)
}

// discard ends the program, and removes the change's own files; the journal goes last.
func (c Change) discard(ctx context.Context) error {
	if err := c.End(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(c.Work); err != nil {
		return err
	}
	c.at(ctx, "transform-cleaned")
	return durable.Remove(c.Journal)
}

// rename moves a directory within the file system, durably.
func (c Change) rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return errors.Join(durable.SyncDir(filepath.Dir(from)), durable.SyncDir(filepath.Dir(to)))
}

func (c Change) at(ctx context.Context, point string) {
	if c.At != nil {
		c.At(ctx, point)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// syncAll brings to disk what was written below a directory.
func syncAll(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(dir.Fd())), dir.Close())
}

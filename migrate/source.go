package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/filesync"
	"drydock/migrate/owner"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"
)

// smallRest is how few bytes of files may be left to be brought over inside the freeze, and maxPasses how often that is
// tried while the pod writes faster.
const (
	smallRest = 1 << 20
	maxPasses = 6
)

// prepare has the destination make everything that the pod will need, and opens the connections.
func (m *move) prepare(ctx context.Context) error {
	if err := m.journals.save(m.journal(owner.Prepared)); err != nil {
		return err
	}
	net, err := m.Pods.Network(ctx, m.spec.Pod)
	if err != nil {
		return err
	}
	static, err := net.SaveStatic(ctx)
	if err != nil {
		return err
	}
	state, err := json.Marshal(static)
	if err != nil {
		return err
	}
	specs, err := m.Pods.Specs(ctx, m.spec.Pod)
	if err != nil {
		return err
	}
	descriptors, err := m.Pods.Descriptors(m.spec.Pod)
	if err != nil {
		return err
	}
	_, err = m.receiver.Prepare(ctx, connect.NewRequest(&drydockv1.ReceivePrepareRequest{
		Migration: m.spec, Needs: m.needs, NetworkState: state, RuntimeSpecs: specs, Mode: m.mode,
		Source: &drydockv1.Peer{Name: m.Here.Host, Address: m.Address, BootId: m.Here.BootID}, BootId: m.Here.BootID,
		Incarnation: m.record.Incarnation, Descriptors: descriptors,
	}))
	if err != nil {
		return fmt.Errorf("%s: %w", m.spec.To, err)
	}
	if _, err := m.makeDir(m.spec.Id); err != nil {
		return err
	}
	if m.postcopy() {
		if err := m.offerPages(); err != nil {
			return err
		}
	}
	return m.connect(ctx)
}

// sync brings the pod's files over while it runs, and has both sides make ready for the rest, unless its memory comes first.
func (m *move) sync(ctx context.Context) error {
	if err := m.bringFiles(ctx); err != nil || m.precopies() {
		return err
	}
	return m.ready(ctx)
}

// bringFiles brings the pod's files over until little is left.
func (m *move) bringFiles(ctx context.Context) error {
	for range maxPasses {
		var rest atomic.Int64
		err := m.passes(ctx, filesync.PassOptions{Sync: true}, func(s filesync.Stats) { rest.Add(s.Bytes + int64(s.Unsettled)) })
		if err != nil {
			return err
		}
		if rest.Load() < smallRest {
			break
		}
	}
	return nil
}

// ready has both sides make ready for the freeze, so that it has none of that to do.
func (m *move) ready(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		_, err := m.receiver.Ready(ctx, connect.NewRequest(&drydockv1.ReceiveReadyRequest{Migration: m.spec.Id, Pod: m.spec.Pod}))
		return err
	})
	group.Go(func() error { return m.standBy(ctx) })
	return group.Wait()
}

// passes makes one pass over every tree, all at once.
func (m *move) passes(ctx context.Context, options filesync.PassOptions, done func(filesync.Stats)) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, t := range m.trees {
		group.Go(func() error {
			stats, err := t.sender.Pass(ctx, options)
			if err != nil {
				return fmt.Errorf("bring over %s: %w", t.Name, err)
			}
			m.bytes.Add(stats.Bytes)
			done(stats)
			return nil
		})
	}
	return group.Wait()
}

// freeze makes the pod moving in the store, and then stands it still: from here on a client waits.
func (m *move) freeze(ctx context.Context) error {
	record, err := m.beginMove(ctx, owner.Move{
		Pod: m.spec.Pod, Migration: m.spec.Id, Epoch: m.spec.Epoch, Destination: m.destination, PostCopy: m.postcopy(),
	})
	if err != nil {
		return err
	}
	m.record = record
	if err := m.journals.save(m.journal(owner.Frozen)); err != nil {
		return err
	}
	m.At(ctx, "source-in-freeze")
	m.frozen = time.Now()
	if err := m.Pods.Freeze(ctx, m.spec.Pod); err != nil {
		return err
	}
	if err := m.catch.Begin(); err != nil {
		return err
	}
	if err := m.Pods.Unplug(ctx, m.spec.Pod); err != nil {
		return err
	}
	return m.catch.Unplugged()
}

// dump has CRIU write every container's state, and sends it while it is written, together with the last changes of files.
func (m *move) dump(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		ctx, cancel := context.WithTimeout(ctx, m.Silence)
		defer cancel()
		_, err := m.receiver.Hold(ctx, connect.NewRequest(&drydockv1.ReceiveHoldRequest{Migration: m.spec.Id, Pod: m.spec.Pod}))
		return err
	})
	images := filepath.Join(m.dir(m.spec.Id), "images")
	if m.sending == nil {
		m.sending = m.beginSending(ctx, images)
	}
	before := int64(0)
	if m.precopies() {
		before = m.sending.Bytes()
	}
	group.Go(func() error {
		err := m.sending.wait(ctx)
		m.bytes.Add(m.sending.Bytes() - before)
		return err
	})
	group.Go(func() error {
		// The pod stands still, so its files do, while CRIU dumps.
		last := filesync.PassOptions{Final: true}
		passed := make(chan error, 1)
		go func() { passed <- m.passes(ctx, last, func(filesync.Stats) {}) }()
		err := m.checkpoint(ctx, images)
		close(m.sending.written)
		if err := errors.Join(err, <-passed); err != nil {
			return err
		}
		if !m.remapped(images) {
			return nil
		}
		return m.passes(ctx, last, func(filesync.Stats) {})
	})
	return group.Wait()
}

// remapped tells whether CRIU has made links among the pod's files, so that those which are open and have no name any more
// can be found at the destination.
func (m *move) remapped(images string) bool {
	found, err := filepath.Glob(filepath.Join(images, "*", "remap-fpath.img"))
	return err != nil || len(found) > 0
}

// checkpoint lets the dumps that stand by go on, and returns when CRIU has written all that is to be sent.
func (m *move) checkpoint(ctx context.Context, images string) error {
	if err := m.dumps.goOn(ctx); err != nil {
		return err
	}
	if m.postcopy() {
		if err := m.Pods.FreezeAll(ctx, m.spec.Pod); err != nil {
			return err
		}
	}
	return m.recoverTimers(images)
}

func (m *move) recoverTimers(images string) error {
	for _, c := range m.rec.Spec.Containers {
		if err := m.Pods.RecoverTimers(m.spec.Pod, c.Name, filepath.Join(images, c.Name)); err != nil {
			return err
		}
	}
	return nil
}

// restore hands over: the destination restores, and asks for the decision when every task is rebuilt.
func (m *move) restore(ctx context.Context) (err error) {
	// Nothing waits for this entry: without it a restarted agent asks for an abort, and learns what was decided.
	journaled := make(chan error, 1)
	go func() { journaled <- m.journals.save(m.journal(owner.Dumped)) }()
	defer func() { err = errors.Join(err, <-journaled) }()
	net, err := m.Pods.Network(ctx, m.spec.Pod)
	if err != nil {
		return err
	}
	dynamic, err := net.SaveDynamic(ctx)
	if err != nil {
		return err
	}
	state, err := json.Marshal(dynamic)
	if err != nil {
		return err
	}
	listening, hangUp := context.WithCancel(ctx)
	m.hangUp = hangUp
	m.arrived, err = m.receiver.Restore(listening, connect.NewRequest(&drydockv1.ReceiveRestoreRequest{
		Migration: m.spec.Id, Pod: m.spec.Pod, NetworkState: state, Files: m.sending.sizes, Pages: m.pages, Frames: m.catch.Frames(), Sums: sumsOf(m.sending.Sums()),
	}))
	if err != nil {
		return err
	}
	return m.await(eventRestored)
}

// skipPrecopy leaves the step out in the other modes.
func (m *move) skipPrecopy() string {
	if m.precopies() {
		return ""
	}
	return "mode " + modeName(m.mode)
}

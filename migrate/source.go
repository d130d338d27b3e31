package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/migrate/filesync"
	"drydock/migrate/owner"
	"drydock/migrate/transfer"
	"drydock/pods"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"
)

// move is one migration with this host as its source.
type move struct {
	*Engine
	spec   *drydockv1.MigrationSpec
	report *drydockv1.MigrationReport
	*feed

	rec         *pods.Record
	needs       *drydockv1.PodNeeds
	peer        *drydockv1.Peer
	receiver    drydockv1connect.ReceiveServiceClient
	destination owner.Place
	record      owner.Record
	mode        drydockv1.MigrationMode

	images  []net.Conn
	trees   []*tree
	sender  *transfer.ImageSender
	dumped  map[string]int64
	bytes   atomic.Int64
	frozen  time.Time
	pages   *drydockv1.PageSource
	arrived *connect.ServerStreamForClient[drydockv1.ReceiveRestoreResponse]
}

// tree is one of the pod's directories on its way.
type tree struct {
	pods.Tree
	conn   net.Conn
	sender *transfer.FileSender
}

// imageStreams is how many connections carry CRIU's images. Encryption is what limits one of them, so there is one for
// each of the two processors that the smallest host has.
const imageStreams = 2

// smallRest is how few bytes of files may be left to be brought over inside the freeze, and maxPasses how often that is
// tried while the pod writes faster.
const (
	smallRest = 1 << 20
	maxPasses = 6
)

func (m *move) steps() []step {
	return []step{
		{name: "check", do: m.check},
		{name: "prepare", do: m.prepare, undo: m.discard, skip: nil},
		{name: "sync", do: m.sync},
		{name: "precopy", do: m.precopy, skip: m.skipPrecopy},
		{name: "freeze", do: m.freeze, undo: m.giveUp, frozen: true},
		{name: "dump", do: m.dump, frozen: true},
		{name: "restore", do: m.restore, frozen: true},
		{name: "decide", do: m.decided, frozen: true},
		{name: "plug in", do: m.pluggedIn},
		{name: "clean", do: m.finish},
	}
}

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
	_, err = m.receiver.Prepare(ctx, connect.NewRequest(&drydockv1.ReceivePrepareRequest{
		Migration: m.spec, Needs: m.needs, NetworkState: state, RuntimeSpecs: specs, Mode: m.mode,
		Source: &drydockv1.Peer{Name: m.Here.Host, Address: m.Address}, BootId: m.Here.BootID,
		Incarnation: m.record.Incarnation,
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

func (m *move) connect(ctx context.Context) error {
	for range imageStreams {
		conn, err := m.Peers.Dial(ctx, m.peer, transfer.Hello{Migration: m.spec.Id, Kind: transfer.Images, Name: m.spec.Pod})
		if err != nil {
			return err
		}
		m.images = append(m.images, conn)
	}
	all, err := m.Pods.Trees(ctx, m.spec.Pod)
	if err != nil {
		return err
	}
	for _, t := range all {
		conn, err := m.Peers.Dial(ctx, m.peer, transfer.Hello{Migration: m.spec.Id, Kind: transfer.Files, Name: m.spec.Pod + "/" + t.Name})
		if err != nil {
			return err
		}
		sender, err := transfer.NewFileSender(t.Dir, conn)
		if err != nil {
			return errors.Join(err, conn.Close())
		}
		m.trees = append(m.trees, &tree{t, conn, sender})
	}
	return nil
}

// close lets go of what the steps have opened.
func (m *move) close() {
	for _, conn := range m.images {
		_ = conn.Close()
	}
	for _, t := range m.trees {
		_ = errors.Join(t.sender.Close(), t.conn.Close())
	}
	if m.arrived != nil {
		_ = m.arrived.Close()
	}
}

func (m *move) journal(stage owner.Stage) owner.Journal {
	return owner.Journal{
		Pod: m.spec.Pod, Side: owner.Source, Stage: stage, Incarnation: m.record.Incarnation, BootID: m.Here.BootID,
		Migration: m.spec.Id, Epoch: m.spec.Epoch, Peer: m.destination, PostCopy: m.postcopy(),
	}
}

func (m *move) postcopy() bool { return m.mode == drydockv1.MigrationMode_MIGRATION_MODE_POSTCOPY }

// sync brings the pod's files over while it runs, until little is left, and has the destination make ready for the rest.
func (m *move) sync(ctx context.Context) error {
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
	_, err := m.receiver.Ready(ctx, connect.NewRequest(&drydockv1.ReceiveReadyRequest{Migration: m.spec.Id, Pod: m.spec.Pod}))
	return err
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
	record, err := m.Store.Begin(ctx, owner.Move{
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
	return m.Pods.Unplug(ctx, m.spec.Pod)
}

// dump has CRIU write every container's state, and sends it while it is written, together with the last changes of files.
func (m *move) dump(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		_, err := m.receiver.Hold(ctx, connect.NewRequest(&drydockv1.ReceiveHoldRequest{Migration: m.spec.Id, Pod: m.spec.Pod}))
		return err
	})
	images := filepath.Join(m.dir(m.spec.Id), "images")
	if err := os.MkdirAll(images, 0o700); err != nil {
		return err
	}
	m.sender = transfer.NewImageSender(images, m.images)
	written := make(chan struct{})
	group.Go(func() (err error) {
		m.dumped, err = m.sender.Send(ctx, written)
		m.bytes.Add(m.sender.Bytes())
		return err
	})
	group.Go(func() error {
		defer close(written)
		if err := m.checkpoint(ctx, images); err != nil {
			return err
		}
		// CRIU may have left links in the writable layer, so that files which have no name can be found.
		return m.passes(ctx, filesync.PassOptions{Final: true}, func(filesync.Stats) {})
	})
	return group.Wait()
}

func (m *move) checkpoint(ctx context.Context, images string) error {
	group := new(errgroup.Group)
	var lock sync.Mutex
	for _, c := range m.rec.Spec.Containers {
		group.Go(func() error {
			dump := pods.Dump{Images: filepath.Join(images, c.Name), Work: filepath.Join(m.dir(m.spec.Id), "work", c.Name)}
			for _, dir := range []string{dump.Images, dump.Work} {
				if err := os.MkdirAll(dir, 0o700); err != nil {
					return err
				}
			}
			if !m.postcopy() {
				return m.Pods.Checkpoint(ctx, m.spec.Pod, c.Name, dump)
			}
			port, err := m.lazyCheckpoint(ctx, c.Name, dump)
			lock.Lock()
			defer lock.Unlock()
			m.pages.Ports[c.Name] = uint32(port)
			return err
		})
	}
	if err := group.Wait(); err != nil {
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

// offerPages makes what the destination needs to ask for pages.
func (m *move) offerPages() (err error) {
	host, _, err := net.SplitHostPort(m.Address)
	if err != nil {
		return err
	}
	m.pages = &drydockv1.PageSource{Host: host, Ports: make(map[string]uint32)}
	m.pages.Certificate, m.pages.Key, err = makePageCredentials(m.dir(m.spec.Id))
	return err
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
	m.arrived, err = m.receiver.Restore(ctx, connect.NewRequest(&drydockv1.ReceiveRestoreRequest{
		Migration: m.spec.Id, Pod: m.spec.Pod, NetworkState: state, Files: m.dumped, Pages: m.pages,
	}))
	if err != nil {
		return err
	}
	return m.await(eventRestored)
}

// decided waits until the destination's tasks run.
func (m *move) decided(context.Context) error {
	if err := m.await(eventRunning); err != nil {
		return err
	}
	m.report.Freeze = durationpb.New(time.Since(m.frozen))
	return nil
}

func (m *move) pluggedIn(context.Context) error { return m.await(eventSettled) }

// await reads the destination's events up to the one that is wanted.
func (m *move) await(want string) error {
	for m.arrived.Receive() {
		event := m.arrived.Msg()
		if event.Event == want {
			return nil
		}
		if event.Result != nil {
			m.report.FramesHeld = event.Result.FramesHeld
			return fmt.Errorf("%s gave up: %s", m.spec.To, event.Result.Error)
		}
	}
	if err := m.arrived.Err(); err != nil {
		return fmt.Errorf("%s: %w", m.spec.To, err)
	}
	return fmt.Errorf("%s ended its answer before it said %q", m.spec.To, want)
}

// finish ends the source's copy.
func (m *move) finish(ctx context.Context) error {
	for m.arrived.Receive() {
		if result := m.arrived.Msg().Result; result != nil {
			m.report.FramesHeld = result.FramesHeld
		}
	}
	return m.settle(ctx)
}

// giveUp undoes the freeze: it asks for an abort, and does what was decided, however long the store is away.
func (m *move) giveUp(ctx context.Context) error {
	m.Engine.place(m.spec.Pod).interrupted = true
	return m.settle(ctx)
}

// settle resolves until this host has nothing left to do with the migration, and learns what became of it.
func (m *move) settle(ctx context.Context) error {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		next, err := m.resolve(ctx, m.spec.Pod, nil)
		if err != nil {
			m.Log.Warn("migration is not settled yet", "pod", m.spec.Pod, "migration", m.spec.Id, "next", next.Action, "error", err)
		}
		j, jerr := m.journals.load(m.spec.Pod)
		if jerr == nil && (j.Side != owner.Source || j.Migration != m.spec.Id) {
			m.outcome(j)
			return nil
		}
		m.say(&drydockv1.MigrationProgress{Migration: m.spec.Id, Step: "settle", Message: next.Reason})
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// outcome reads off what is left here what was decided.
func (m *move) outcome(j owner.Journal) {
	switch {
	case j.Side == "":
		m.report.Outcome = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED
	default:
		m.report.Outcome = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_ABORTED
	}
}

// discard undoes the preparation on both sides.
func (m *move) discard(ctx context.Context) error {
	m.close()
	if m.report.Outcome == drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED {
		return nil
	}
	m.Engine.place(m.spec.Pod).interrupted = true
	if err := m.settle(ctx); err != nil {
		return err
	}
	_, err := m.receiver.Discard(ctx, connect.NewRequest(&drydockv1.ReceiveDiscardRequest{Migration: m.spec.Id, Pod: m.spec.Pod}))
	if err != nil {
		m.Log.Warn("the destination will find out by itself that the migration is over", "migration", m.spec.Id, "error", err)
	}
	return nil
}

func (m *move) precopy(context.Context) error { return nil }

func (m *move) skipPrecopy() string {
	if m.mode == drydockv1.MigrationMode_MIGRATION_MODE_PRECOPY {
		return ""
	}
	return "mode " + modeName(m.mode)
}

func sortedKeys[V any](in map[string]V) []string { return slices.Sorted(maps.Keys(in)) }

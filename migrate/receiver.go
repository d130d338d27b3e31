package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/filesync"
	"drydock/migrate/owner"
	"drydock/migrate/transfer"
	"drydock/pods"
	"drydock/pods/network"

	"github.com/fsnotify/fsnotify"
)

// arrival is a pod that is being received.
type arrival struct {
	mu        sync.Mutex
	migration string
	images    *transfer.ImageReceiver
	hold      *network.Hold
	loopback  *network.LoopbackHold
	// restore is the one that runs or waits.
	restore *early
	// descriptors are runc's, by container.
	descriptors map[string][]byte
	// events go to the source, for as long as it listens.
	events  chan string
	settled bool
	// source ends when the source has hung up.
	source context.Context
	// files are the directories that were brought over.
	files []*filesync.Target
}

// Events of a destination, in order.
const (
	eventRestored = "restored"
	eventRunning  = "running"
	eventSettled  = "settled"
)

func (p *place) tell(event string) {
	if p.coming == nil {
		return
	}
	select {
	case p.coming.events <- event:
	default:
	}
}

func (p *place) settled() {
	if p.coming != nil {
		p.coming.settled = true
	}
	p.tell(eventSettled)
}

// Prepare makes everything that the pod will need here, and nothing of it runs. It may be asked again.
func (e *Engine) Prepare(ctx context.Context, req *drydockv1.ReceivePrepareRequest) error {
	spec := req.Needs.Spec
	release, err := e.hold(ctx, spec.Name)
	if err != nil {
		return err
	}
	defer release()
	e.At(ctx, "destination-before-prepare")
	if err := e.begin(req); err != nil {
		return err
	}
	start := time.Now()
	lap := func(what string) {
		e.Log.Debug("prepare", "pod", spec.Name, "part", what, "took", time.Since(start))
		start = time.Now()
	}
	if err := e.fetchImages(ctx, spec, req.Source); err != nil {
		return err
	}
	lap("images")
	rec := &pods.Record{Spec: spec, Epoch: req.Migration.Epoch, Role: pods.Incoming, Migration: req.Migration.Id, Restarts: req.Needs.Restarts}
	if err := e.Pods.Create(ctx, rec, req.RuntimeSpecs); err != nil {
		return err
	}
	lap("containers")
	if err := e.receiving(ctx, req); err != nil {
		return err
	}
	lap("network")
	e.At(ctx, "destination-after-prepare")
	return nil
}

// begin journals that this host takes part.
func (e *Engine) begin(req *drydockv1.ReceivePrepareRequest) error {
	pod := req.Needs.Spec.Name
	j, err := e.journals.load(pod)
	if err != nil {
		return err
	}
	if j.Side != "" && j.Migration != req.Migration.Id {
		return fmt.Errorf("pod %s is already here (%s): wait until that is over", pod, j)
	}
	if j.Side != "" && j.Stage != owner.Prepared {
		return fmt.Errorf("migration %s has gone past its preparation here (%s)", j.Migration, j)
	}
	p := e.place(pod)
	p.interrupted, p.attempts, p.peerHeard = false, 0, time.Now()
	if err := e.journals.reserve(); err != nil {
		return err
	}
	return e.journals.save(owner.Journal{
		Pod: pod, Side: owner.Destination, Stage: owner.Prepared, Incarnation: req.Incarnation, BootID: e.Here.BootID,
		Migration: req.Migration.Id, Epoch: req.Migration.Epoch,
		Peer:     owner.Place{Host: req.Source.Name, BootID: req.BootId},
		PostCopy: req.Mode == drydockv1.MigrationMode_MIGRATION_MODE_POSTCOPY,
	})
}

func (e *Engine) fetchImages(ctx context.Context, spec *drydockv1.PodSpec, from *drydockv1.Peer) error {
	for _, c := range spec.Containers {
		if e.Pods.HasImage(ctx, c.ImageDigest) {
			continue
		}
		if _, err := e.Pods.Fetch(ctx, c.Image, c.ImageDigest, e.Peers.Images(from)); err != nil {
			return err
		}
	}
	return nil
}

// receiving makes what takes in the pod's files, memory and network.
func (e *Engine) receiving(ctx context.Context, req *drydockv1.ReceivePrepareRequest) error {
	pod, id := req.Needs.Spec.Name, req.Migration.Id
	dir, err := e.makeDir(id)
	if err != nil {
		return err
	}
	images := filepath.Join(dir, "images")
	if err := os.MkdirAll(images, 0o700); err != nil {
		return err
	}
	net, err := e.Pods.Network(ctx, pod)
	if err != nil {
		return err
	}
	var static network.StaticState
	if err := json.Unmarshal(req.NetworkState, &static); err != nil {
		return fmt.Errorf("network state of pod %s: %w", pod, err)
	}
	if err := net.LoadStatic(ctx, static); err != nil {
		return err
	}
	// Asked again, what an earlier attempt has opened goes.
	e.endArrival(ctx, pod)
	coming := &arrival{migration: id, events: make(chan string, 8), descriptors: req.Descriptors}
	if coming.images, err = transfer.NewImageReceiver(images); err != nil {
		return err
	}
	e.place(pod).coming = coming
	return nil
}

// Ready makes hooks, tasks and the holding of packets, so that the freeze has none of it to do. The pod's files have to be
// here, but for the last changes: containerd mounts them now.
func (e *Engine) Ready(ctx context.Context, pod, migration string) error {
	release, err := e.hold(ctx, pod)
	if err != nil {
		return err
	}
	defer release()
	coming, err := e.arrival(pod, migration)
	if err != nil {
		return err
	}
	rec, err := e.Pods.Record(pod)
	if err != nil {
		return err
	}
	j, err := e.journals.load(pod)
	if err != nil {
		return err
	}
	if err := e.prepareTasks(ctx, rec.Spec, migration, j.PostCopy); err != nil {
		return err
	}
	net, err := e.Pods.Network(ctx, pod)
	if err != nil {
		return err
	}
	if coming.hold, err = net.Hold(ctx); err != nil {
		return err
	}
	if len(rec.Spec.Containers) > 1 {
		if coming.loopback, err = net.HoldLoopback(ctx); err != nil {
			return err
		}
	}
	if j.PostCopy {
		// The lazy-pages daemon reads the same inventory, and would take it from the restore.
		return nil
	}
	coming.restore, err = e.startEarly(ctx, rec.Spec, migration, coming.descriptors)
	return err
}

func (e *Engine) prepareTasks(ctx context.Context, spec *drydockv1.PodSpec, migration string, lazy bool) error {
	for _, c := range spec.Containers {
		if _, err := newHook(e.hook(migration, c.Name).dir); err != nil {
			return err
		}
		from := e.restoreFrom(migration, c.Name)
		from.Lazy = lazy
		for _, dir := range []string{from.Images, from.Work} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
		}
		if err := e.Pods.PrepareRestore(ctx, spec.Name, c.Name, from); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) restoreFrom(migration, container string) pods.Restore {
	dir := e.dir(migration)
	return pods.Restore{
		Images: filepath.Join(dir, "images", container),
		Work:   filepath.Join(dir, "work", container),
		Script: e.hook(migration, container).script(),
	}
}

// Announce tells the network that the pod's address is here now, and keeps what comes for it.
func (e *Engine) Announce(ctx context.Context, pod, migration string) error {
	coming, err := e.arrival(pod, migration)
	if err != nil {
		return err
	}
	if coming.hold == nil {
		return fmt.Errorf("migration %s of pod %s: nothing is ready here to hold its packets", migration, pod)
	}
	e.At(ctx, "destination-before-hold")
	if err := coming.hold.Announce(ctx); err != nil {
		return err
	}
	e.At(ctx, "destination-after-hold")
	return nil
}

func (e *Engine) arrival(pod, migration string) (*arrival, error) {
	coming := e.place(pod).coming
	if coming == nil || coming.migration != migration {
		return nil, fmt.Errorf("migration %s of pod %s is not being received here", migration, pod)
	}
	return coming, nil
}

// Arrived says that everything was sent; files has the size of every image. It restores the pod, asks for the decision, and
// on commit plugs it in. events gets what happens, and the last step is returned.
func (e *Engine) Arrived(ctx context.Context, req *drydockv1.ReceiveRestoreRequest, events func(string)) (owner.Step, error) {
	source := ctx
	ctx = context.WithoutCancel(ctx)
	release, err := e.hold(ctx, req.Pod)
	if err != nil {
		return owner.Step{}, err
	}
	defer release()
	coming, err := e.arrival(req.Pod, req.Migration)
	if err != nil {
		return owner.Step{}, err
	}
	coming.source = source
	done := make(chan struct{})
	relayed := make(chan struct{})
	go func() {
		defer close(relayed)
		coming.relay(done, events)
	}()
	last, err := e.receive(ctx, req, coming)
	close(done)
	<-relayed
	return last, err
}

func (a *arrival) relay(done <-chan struct{}, events func(string)) {
	for {
		select {
		case event := <-a.events:
			events(event)
		case <-done:
			for {
				select {
				case event := <-a.events:
					events(event)
				default:
					return
				}
			}
		}
	}
}

func (e *Engine) receive(ctx context.Context, req *drydockv1.ReceiveRestoreRequest, coming *arrival) (owner.Step, error) {
	p := e.place(req.Pod)
	if err := e.accept(req, coming); err != nil {
		p.interrupted = true
		last, rerr := e.resolve(ctx, req.Pod, nil)
		return last, errors.Join(err, rerr)
	}
	e.At(ctx, "destination-complete")
	for {
		last, err := e.resolve(ctx, req.Pod, nil)
		if err != nil || !e.arriving(req) {
			return last, err
		}
		// The pod runs, and its pages still come.
		time.Sleep(pagesPoll)
	}
}

// pagesPoll is how often it is looked whether all pages have come.
const pagesPoll = 10 * time.Millisecond

// arriving tells that a pod runs here by post-copy and has not settled.
func (e *Engine) arriving(req *drydockv1.ReceiveRestoreRequest) bool {
	j, err := e.journals.load(req.Pod)
	return err == nil && j.PostCopy && j.Side == owner.Destination && j.Migration == req.Migration && j.Stage == owner.PluggedIn
}

// accept verifies that all is here, and marks it so.
func (e *Engine) accept(req *drydockv1.ReceiveRestoreRequest, coming *arrival) error {
	if err := coming.images.Missing(req.Files); err != nil {
		return err
	}
	if req.Pages != nil {
		j, err := e.journals.load(req.Pod)
		if err != nil {
			return err
		}
		j.Stage = owner.Received
		for container := range req.Pages.Ports {
			if err := settleImages(e.restoreFrom(j.Migration, container).Images); err != nil {
				return err
			}
		}
		if err := errors.Join(e.journals.save(j), e.startKeepers(j, req.Pages)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(e.dir(req.Migration), completeMark), req.NetworkState, 0o600)
}

// restore has CRIU rebuild every container, and returns when all of them wait in their hooks, or one has failed.
func (e *Engine) restore(ctx context.Context, j owner.Journal) (err error) {
	e.At(ctx, "destination-before-restore")
	rec, err := e.Pods.Record(j.Pod)
	if err != nil {
		return err
	}
	again := j.Attempts > 0
	// What CRIU rebuilds does not run before the decision, so the journal need not be on disk before CRIU starts; it is
	// before the decision is asked for.
	j.Stage, j.Attempts = owner.Restoring, j.Attempts+1
	e.place(j.Pod).attempts = j.Attempts
	journaled := make(chan error, 1)
	go func() { journaled <- e.journals.save(j) }()
	defer func() { err = errors.Join(err, <-journaled) }()
	if again {
		// A CRIU of the last attempt that still waits in its hook must not hear the verdict on this one.
		e.abandon(ctx, j, rec.Spec)
		if err := errors.Join(e.Pods.Kill(ctx, j.Pod), e.prepareTasks(ctx, rec.Spec, j.Migration, j.PostCopy)); err != nil {
			return err
		}
	}
	if err := e.loadNetwork(ctx, j); err != nil {
		return err
	}
	if j.PostCopy {
		if err := e.awaitDaemons(ctx, j, rec.Spec); err != nil {
			return err
		}
	}
	watch, err := e.watchHooks(j.Migration, rec.Spec)
	if err != nil {
		return err
	}
	defer watch.Close()
	restores, err := e.goOn(ctx, j, rec.Spec)
	if err != nil {
		return err
	}
	p := e.place(j.Pod)
	for !e.held(j.Pod, j.Migration) || j.PostCopy && !e.keptSafe(j.Migration, rec.Spec) {
		select {
		case <-watch.Events:
			continue
		case <-time.After(50 * time.Millisecond):
			if err := e.endOrphans(ctx, j, rec.Spec); err != nil {
				return err
			}
			if _, lost := e.pagesHere(j.Pod, j.Migration); !j.PostCopy || !lost {
				continue
			}
		case <-restores.failed:
		}
		// What CRIU or a container that was restored has left is ended here, before it could run.
		e.abandon(ctx, j, rec.Spec)
		err := restores.restores.Wait()
		p.interrupted = true
		e.Log.Error("restore failed", "pod", j.Pod, "migration", j.Migration, "error", err)
		p.tell(fmt.Sprintf("failed: %v", err))
		return e.Pods.Kill(ctx, j.Pod)
	}
	e.At(ctx, "destination-after-restore")
	return nil
}

// endOrphans ends what is left of a restore whose CRIU was killed, so that runc gives up.
func (e *Engine) endOrphans(ctx context.Context, j owner.Journal, spec *drydockv1.PodSpec) error {
	for _, c := range spec.Containers {
		h := e.hook(j.Migration, c.Name)
		if h.waiting() || h.resumed() {
			continue
		}
		orphaned, err := e.Pods.Orphaned(j.Pod, c.Name)
		if err != nil {
			return err
		}
		if orphaned {
			return e.Pods.KillTasks(ctx, j.Pod)
		}
	}
	return nil
}

// goOn lets the restores that wait go on, or starts them where none does.
func (e *Engine) goOn(ctx context.Context, j owner.Journal, spec *drydockv1.PodSpec) (*early, error) {
	images := func(container string) string { return e.restoreFrom(j.Migration, container).Images }
	coming := e.place(j.Pod).coming
	if coming != nil && coming.restore.waits(spec) {
		return coming.restore, coming.restore.feed(images)
	}
	for _, c := range spec.Containers {
		if err := settleImages(images(c.Name)); err != nil {
			return nil, err
		}
	}
	r := e.runRestores(ctx, spec, j.Migration)
	if coming != nil {
		coming.restore = r
	}
	return r, nil
}

// abandon makes every CRIU that waits give up.
func (e *Engine) abandon(ctx context.Context, j owner.Journal, spec *drydockv1.PodSpec) {
	for _, c := range spec.Containers {
		if err := e.hook(j.Migration, c.Name).answer(ctx, false); err != nil {
			e.Log.Error("answer CRIU", "pod", j.Pod, "container", c.Name, "error", err)
		}
	}
	if err := e.Pods.KillTasks(ctx, j.Pod); err != nil {
		e.Log.Error("end what CRIU left", "pod", j.Pod, "error", err)
	}
}

func (e *Engine) watchHooks(migration string, spec *drydockv1.PodSpec) (*fsnotify.Watcher, error) {
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch CRIU's hooks: %w", err)
	}
	for _, c := range spec.Containers {
		if err := watch.Add(e.hook(migration, c.Name).dir); err != nil {
			return nil, errors.Join(fmt.Errorf("watch CRIU's hooks: %w", err), watch.Close())
		}
	}
	return watch, nil
}

func (e *Engine) loadNetwork(ctx context.Context, j owner.Journal) error {
	data, err := os.ReadFile(filepath.Join(e.dir(j.Migration), completeMark))
	if err != nil {
		return err
	}
	var state network.DynamicState
	if err := json.Unmarshal(data, &state); err != nil {
		return err
	}
	net, err := e.Pods.Network(ctx, j.Pod)
	if err != nil {
		return err
	}
	return net.LoadDynamic(ctx, state)
}

// release lets CRIU's tasks run: the pod is this host's.
func (e *Engine) release(ctx context.Context, j owner.Journal) error {
	j.Stage, j.Ran = owner.Committed, true
	if err := e.journals.save(j); err != nil {
		return err
	}
	rec, err := e.Pods.Record(j.Pod)
	if err != nil {
		return err
	}
	for _, c := range rec.Spec.Containers {
		if err := e.hook(j.Migration, c.Name).answer(ctx, true); err != nil {
			return err
		}
	}
	return e.awaitResumed(ctx, j, rec.Spec)
}

// awaitResumed waits until CRIU has let every task go, whoever started it, or has ended without. What runc and containerd
// have still to do then, nobody waits for.
func (e *Engine) awaitResumed(ctx context.Context, j owner.Journal, spec *drydockv1.PodSpec) error {
	for n := 0; !e.resumed(j.Migration, spec); n++ {
		if n%100 == 99 {
			state, err := e.Pods.State(ctx, j.Pod)
			if err != nil || !state.Busy {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Microsecond):
		}
	}
	return nil
}

func (e *Engine) resumed(migration string, spec *drydockv1.PodSpec) bool {
	for _, c := range spec.Containers {
		if !e.hook(migration, c.Name).resumed() {
			return false
		}
	}
	return true
}

// plugIn lets the network through.
func (e *Engine) plugIn(ctx context.Context, j owner.Journal, r owner.Record) error {
	p := e.place(j.Pod)
	if j.Side != owner.Destination {
		return e.Pods.PlugIn(ctx, j.Pod)
	}
	e.At(ctx, "destination-before-plug-in")
	if p.coming != nil {
		p.tell(eventRunning)
		if p.coming.loopback != nil {
			if _, err := p.coming.loopback.Release(ctx); err != nil {
				return err
			}
		}
		stats, err := p.coming.hold.Release(ctx)
		if err != nil {
			return err
		}
		p.frames = stats.In.Frames + stats.Out.Frames
	}
	j.Stage, j.Ran = owner.PluggedIn, true
	if err := e.journals.save(j); err != nil {
		return err
	}
	if err := p.flush(); err != nil {
		return err
	}
	if p.coming == nil {
		// An earlier agent's holding port, and what it kept, went with it.
		if err := e.Pods.SweepNetwork(ctx, j.Pod); err != nil {
			return err
		}
	}
	if err := e.Pods.PlugIn(ctx, j.Pod); err != nil {
		return err
	}
	e.At(ctx, "destination-after-plug-in")
	return nil
}

// flush puts the files that came with the pod on this host's disk. It comes before the pod settles, so that the source keeps
// its own until then, and after the pod runs, so that no client waits for it.
func (p *place) flush() error {
	if p.coming == nil {
		return nil
	}
	p.coming.mu.Lock()
	defer p.coming.mu.Unlock()
	for _, target := range p.coming.files {
		if err := target.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// dropCopy undoes everything of a pod that was to come here and never ran.
func (e *Engine) dropCopy(ctx context.Context, j owner.Journal) error {
	if rec, err := e.Pods.Record(j.Pod); err == nil {
		e.abandon(ctx, j, rec.Spec)
	}
	return e.clean(ctx, j.Pod, j)
}

func (e *Engine) endArrival(ctx context.Context, pod string) {
	p := e.place(pod)
	coming := p.coming
	if coming == nil {
		return
	}
	if coming.restore != nil {
		coming.restore.giveUp()
		_ = coming.restore.restores.Wait()
	}
	if coming.loopback != nil {
		_ = coming.loopback.Drop(ctx)
	}
	if coming.hold != nil {
		_ = coming.hold.Drop(ctx)
	}
	coming.close()
	p.coming = nil
}

// close lets go of the directories that were received into.
func (a *arrival) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.images.Close()
	for _, target := range a.files {
		_ = target.Close()
	}
	a.files = nil
}

// handBack gives a committed pod back that has not run here.
func (e *Engine) handBack(ctx context.Context, j owner.Journal) (*owner.Record, error) {
	j.Stage = owner.HandingBack
	if err := e.journals.save(j); err != nil {
		return nil, err
	}
	if rec, err := e.Pods.Record(j.Pod); err == nil {
		e.abandon(ctx, j, rec.Spec)
		if err := e.Pods.Kill(ctx, j.Pod); err != nil {
			return nil, err
		}
	}
	return learn(e.Store.HandBack(ctx, j.Pod, j.Migration, e.Here))
}

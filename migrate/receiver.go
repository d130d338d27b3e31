package migrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/pods"
)

// Prepare makes everything that the pod will need here, and nothing of it runs. It may be asked again.
func (e *Engine) Prepare(ctx context.Context, req *drydockv1.ReceivePrepareRequest) error {
	spec := req.Needs.GetSpec()
	if err := validNames(req.Migration.GetId(), spec); err != nil {
		return err
	}
	if err := e.Damage(spec.Name); err != nil {
		return err
	}
	release, err := e.hold(ctx, spec.Name)
	if err != nil {
		return err
	}
	defer release()
	e.At(ctx, "destination-before-prepare")
	owned, err := e.makeRoom(ctx, spec.Name)
	if err != nil {
		return err
	}
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
	rec := &pods.Record{
		Spec: spec, Epoch: req.Migration.Epoch, Born: owned.Born, Role: pods.Incoming, Migration: req.Migration.Id, Restarts: req.Needs.Restarts,
	}
	if err := e.Pods.Create(ctx, rec, req.RuntimeSpecs); err != nil {
		return err
	}
	if err := e.Pods.SetStarted(ctx, spec.Name, req.Needs.Started); err != nil {
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
	e.place(pod).begin()
	if err := e.journals.reserve(); err != nil {
		return err
	}
	return e.journals.save(owner.Journal{
		Pod: pod, Side: owner.Destination, Stage: owner.Prepared, Incarnation: req.Incarnation, BootID: e.Here.BootID,
		Migration: req.Migration.Id, Epoch: req.Migration.Epoch,
		Peer: owner.Place{Host: req.Source.Name, BootID: req.BootId}, PeerAddress: req.Source.Address,
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
	// Nearly all of the pod's files are here. On the disk, they outlast a power failure that comes before the pod has settled;
	// the little that changes from here on gets there after the pod runs.
	if err := coming.flush(); err != nil {
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
	hold, err := net.Hold(ctx)
	if err != nil {
		return err
	}
	coming.setHold(hold)
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

// Announce tells the network that the pod's address is here now, and keeps what comes for it.
func (e *Engine) Announce(ctx context.Context, pod, migration string) error {
	coming, err := e.arrival(pod, migration)
	if err != nil {
		return err
	}
	hold := coming.packets()
	if hold == nil {
		return fmt.Errorf("migration %s of pod %s: nothing is ready here to hold its packets", migration, pod)
	}
	e.At(ctx, "destination-before-hold")
	if err := hold.Announce(ctx); err != nil {
		return err
	}
	e.At(ctx, "destination-after-hold")
	return nil
}

func (e *Engine) arrival(pod, migration string) (*arrival, error) {
	coming := e.place(pod).arrival()
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
	coming, err := e.arrival(req.Pod, req.Migration)
	if err != nil {
		release()
		return owner.Step{}, err
	}
	coming.awaits(source)
	done := make(chan struct{})
	relayed := make(chan struct{})
	go func() {
		defer close(relayed)
		coming.relay(done, events)
	}()
	last, err := e.receive(ctx, req, coming)
	release() // a source that is slow to listen keeps nobody from the pod
	close(done)
	<-relayed
	return last, err
}

func (e *Engine) receive(ctx context.Context, req *drydockv1.ReceiveRestoreRequest, coming *arrival) (owner.Step, error) {
	p := e.place(req.Pod)
	if err := e.accept(req, coming); err != nil {
		p.interrupt()
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
	rec, err := e.Pods.Record(req.Pod)
	if err != nil {
		return err
	}
	if err := linkParents(filepath.Join(e.dir(req.Migration), "images"), rec.Spec, req.Files); err != nil {
		return err
	}
	if hold := coming.packets(); hold != nil {
		hold.Precede(req.Frames)
	}
	if err := e.keepSums(req); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(e.dir(req.Migration), completeMark), req.NetworkState, 0o600)
}

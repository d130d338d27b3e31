package upgrade

import (
	"context"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
	"drydock/pods/manifest"
	"drydock/pods/sidecar"
)

// step is one thing that is done to a pod. It may be done again: by the next leader, from its beginning.
type step struct {
	name string
	do   func(x *execution, ctx context.Context, p *drydockv1.UpgradePod) error
	// undo takes back what the step did; it may be called where nothing, or half of it, was done.
	undo func(x *execution, ctx context.Context, p *drydockv1.UpgradePod) error
	// last: from its beginning on, the pod is not brought back any more.
	last bool
}

// steps are all, in their order.
func steps() []step {
	return []step{
		{name: "take", do: (*execution).take, undo: (*execution).letGo},
		{name: "fetch", do: (*execution).fetch},
		{name: "shims", do: (*execution).shims},
		{name: "hold", do: (*execution).hold, undo: (*execution).release},
		{name: "stop", do: (*execution).stop, undo: (*execution).startAgain},
		{name: "transform", do: (*execution).transform, undo: (*execution).revert},
		{name: "start", do: (*execution).start, undo: (*execution).stopNew},
		{name: "health", do: (*execution).health},
		{name: "settle", do: (*execution).finish, last: true},
	}
}

func stepIndex(name string) int {
	return slices.IndexFunc(steps(), func(s step) bool { return s.name == name })
}

// left is why a pod takes no part any more.
type left struct{ why *drydockv1.Refusal }

func (l *left) Error() string { return l.why.GetReason() }

// changePod changes what a pod's record asks for, while the upgrade has the pod.
func (x *execution) changePod(ctx context.Context, name string, change func(*drydockv1.PodRecord) error) error {
	return x.Controller.ChangePod(ctx, name, func(record *drydockv1.PodRecord) error {
		if record.GetUpgrade().GetId() != x.id {
			return failed("upgrade "+x.id+" does not have pod "+name, "resume the upgrade: `drydock upgrade resume "+x.id+"`")
		}
		return change(record)
	})
}

// take keeps others from moving, stopping and removing the pod, and remembers what it is.
func (x *execution) take(ctx context.Context, p *drydockv1.UpgradePod) error {
	err := x.Controller.ChangePod(ctx, p.GetPod(), func(record *drydockv1.PodRecord) error {
		switch {
		case record.GetUpgrade().GetId() == x.id:
			return nil
		case record.GetUpgrade() != nil:
			return failed("upgrade "+record.GetUpgrade().GetId()+" has the pod", "wait for its end")
		case record.GetMigration() != "":
			return fmt.Errorf("pod %s is moving (migration %s)", p.GetPod(), record.GetMigration())
		case record.GetDesired() != drydockv1.DesiredState_DESIRED_STATE_RUNNING:
			return failed("it is not meant to run", "start it: `drydock pod start "+p.GetPod()+"`, or remove it")
		case record.GetSpec().GetLabels()[manifest.LabelVersion] != p.GetFrom():
			return failed("it is of version "+record.GetSpec().GetLabels()[manifest.LabelVersion]+" now", "abort the upgrade, and begin it again")
		}
		record.Upgrade = &drydockv1.PodUpgrade{Id: x.id, Before: proto.CloneOf(record.GetSpec())}
		return nil
	})
	if connect.CodeOf(err) == connect.CodeNotFound {
		return &left{refusal.Because("it was removed", "run it anew, where it is needed")}
	}
	return err
}

// letGo lets others have the pod again.
func (x *execution) letGo(ctx context.Context, p *drydockv1.UpgradePod) error {
	err := x.Controller.ChangePod(ctx, p.GetPod(), func(record *drydockv1.PodRecord) error {
		if record.GetUpgrade().GetId() == x.id {
			record.Upgrade = nil
		}
		return nil
	})
	if connect.CodeOf(err) == connect.CodeNotFound {
		return nil
	}
	return err
}

// after is the pod as it is to become, its shim too: it is found out once, so that its host and its record have the same.
func (x *execution) after(ctx context.Context, p *drydockv1.UpgradePod) (after *drydockv1.PodSpec, err error) {
	stored, err := x.record(ctx)
	if err != nil {
		return nil, err
	}
	shims, err := x.forShims(ctx, stored)
	if err != nil {
		return nil, err
	}
	pods, err := x.Controller.ListPods(ctx)
	if err != nil {
		return nil, err
	}
	err = x.changePod(ctx, p.GetPod(), func(record *drydockv1.PodRecord) error {
		if record.GetUpgrade().GetAfter() == nil {
			next := proto.CloneOf(record.GetUpgrade().GetBefore())
			c := serving(next)
			c.Image, c.ImageDigest = x.image, x.digest
			next.Labels[manifest.LabelVersion] = x.to
			next.Shim = shims.shimOf(next, pods)
			record.Upgrade.After = next
		}
		after = proto.CloneOf(record.GetUpgrade().GetAfter())
		return nil
	})
	return after, err
}

// fetch brings the new image to the pod's host while the pod runs on.
func (x *execution) fetch(ctx context.Context, p *drydockv1.UpgradePod) error {
	at, err := x.host(ctx, p)
	if err != nil {
		return err
	}
	from, err := x.Controller.ImageHosts(ctx, &drydockv1.PodSpec{Containers: []*drydockv1.Container{{Image: x.image, ImageDigest: x.digest}}})
	if err != nil {
		return err
	}
	_, err = at.agent.FetchImage(ctx, connect.NewRequest(&drydockv1.FetchImageRequest{Reference: x.image, Digest: x.digest, From: from}))
	if err != nil {
		return failure("fetch "+x.image+" to host "+at.name, "import the image again: `drydock image import`, and resume the upgrade", err)
	}
	return nil
}

// stop ends the old version, which has its grace.
func (x *execution) stop(ctx context.Context, p *drydockv1.UpgradePod) error {
	return x.halt(ctx, p, func(record *drydockv1.PodRecord) { record.StopGrace = record.GetSpec().GetStopGrace() })
}

func (x *execution) halt(ctx context.Context, p *drydockv1.UpgradePod, change func(*drydockv1.PodRecord)) error {
	err := x.changePod(ctx, p.GetPod(), func(record *drydockv1.PodRecord) error {
		record.Desired = drydockv1.DesiredState_DESIRED_STATE_STOPPED
		change(record)
		return nil
	})
	if err == nil {
		err = x.Controller.Converge(ctx, p.GetPod())
	}
	if err != nil {
		return err
	}
	pod, err := x.Controller.GetPod(ctx, p.GetPod())
	if err == nil && pod.GetPhase() != drydockv1.PodPhase_POD_PHASE_STOPPED {
		err = fmt.Errorf("pod %s has not stopped yet", p.GetPod())
	}
	return err
}

// transform turns the pod's volumes into what the new version understands, and its host's record into the new one.
func (x *execution) transform(ctx context.Context, p *drydockv1.UpgradePod) error {
	at, err := x.host(ctx, p)
	if err != nil {
		return err
	}
	spec, err := x.after(ctx, p)
	if err != nil {
		return err
	}
	from, err := x.Controller.ImageHosts(ctx, spec)
	if err != nil {
		return err
	}
	request := &drydockv1.TransformPodRequest{Upgrade: x.attempt(p), Spec: spec, Container: serving(spec).GetName(), ImageHosts: from, Epoch: at.epoch}
	if t := x.pair.Transform; !t.None {
		request.Command, request.Timeout = t.Value.Command, durationpb.New(t.Value.Timeout)
		if x.down {
			request.Command = t.Value.Back
		}
	}
	if _, err := at.agent.TransformPod(ctx, connect.NewRequest(request)); err != nil {
		return failure("transform what it has stored", "correct the record's transform, apply it, and begin the upgrade again", err)
	}
	return nil
}

// attempt names a try for the pod's host, which keeps apart what was taken back and what is tried again.
func (x *execution) attempt(p *drydockv1.UpgradePod) string {
	return fmt.Sprintf("%s-%d", x.id, p.GetAttempt())
}

// start runs the new version under the pod's name and address.
func (x *execution) start(ctx context.Context, p *drydockv1.UpgradePod) error {
	spec, err := x.after(ctx, p)
	if err != nil {
		return err
	}
	err = x.changePod(ctx, p.GetPod(), func(record *drydockv1.PodRecord) error {
		record.Spec, record.Desired = spec, drydockv1.DesiredState_DESIRED_STATE_RUNNING
		return nil
	})
	if err != nil {
		return err
	}
	if err := x.Controller.Converge(ctx, p.GetPod()); err != nil {
		return failure("start version "+x.to, "see the image's program, and `drydock pod logs "+p.GetPod()+"`", err)
	}
	return nil
}

// finish lets calls come to the pod again, drops what the way back would need, and lets others have the pod.
func (x *execution) finish(ctx context.Context, p *drydockv1.UpgradePod) error {
	if err := x.release(ctx, p); err != nil {
		return err
	}
	at, err := x.host(ctx, p)
	if err == nil {
		_, err = at.agent.SettlePod(ctx, connect.NewRequest(&drydockv1.SettlePodRequest{Upgrade: x.attempt(p), Pod: p.GetPod(), Epoch: at.epoch}))
	}
	if err != nil && !gone(err) {
		return err
	}
	return x.Controller.ChangePod(ctx, p.GetPod(), func(record *drydockv1.PodRecord) error {
		if record.GetUpgrade().GetId() == x.id {
			record.Upgrade, record.VersionSince = nil, timestamppb.New(x.Now())
		}
		return nil
	})
}

const (
	// healthWithin is how long a new version may take until it is healthy, beyond what its probe gives it.
	healthWithin = 2 * time.Minute
	// restartsAtMost is how often it may be started again until then.
	restartsAtMost = 3
)

// health waits until the new version is healthy: its probe says so, or, where it has none, it has run for a while.
func (x *execution) health(ctx context.Context, p *drydockv1.UpgradePod) error {
	began := x.Now()
	for {
		status, at, err := x.status(ctx, p)
		if err != nil {
			return err
		}
		ok, why, err := verdict(status, x.Now().Sub(began) >= x.Steady)
		if ok || err != nil {
			return err
		}
		if late := began.Add(healthWithin + delayOf(status.GetSpec())); x.Now().After(late) {
			return failed("it is not healthy: "+why, "see `drydock pod logs "+p.GetPod()+"` of host "+at)
		}
		if err := x.pause(ctx, p, why); err != nil {
			return err
		}
	}
}

// status is the pod as its host sees it now.
func (x *execution) status(ctx context.Context, p *drydockv1.UpgradePod) (*drydockv1.Pod, string, error) {
	at, err := x.host(ctx, p)
	if err != nil {
		return nil, "", err
	}
	all, err := at.agent.ListAgentPods(ctx, connect.NewRequest(&drydockv1.ListAgentPodsRequest{}))
	if err != nil {
		return nil, "", err
	}
	for _, pod := range all.Msg.GetPods() {
		if pod.GetSpec().GetName() == p.GetPod() {
			return pod, at.name, nil
		}
	}
	return nil, "", fmt.Errorf("host %s does not report pod %s", at.name, p.GetPod())
}

// verdict says whether a new version is healthy, why not yet, or that it will not be.
func verdict(pod *drydockv1.Pod, steady bool) (ok bool, why string, err error) {
	if pod.GetPhase() == drydockv1.PodPhase_POD_PHASE_ENDED {
		return false, "", failed("the new version has ended", "see `drydock pod logs "+pod.GetSpec().GetName()+"`")
	}
	for i, c := range pod.GetContainers() {
		probe := pod.GetSpec().GetContainers()[i].GetProbe()
		switch {
		case c.GetRestarts() >= restartsAtMost:
			return false, "", failed(fmt.Sprintf("container %s of the new version has ended %d times, the last time with status %d", c.GetName(), c.GetRestarts(), c.GetExitCode()),
				"see `drydock pod logs "+pod.GetSpec().GetName()+"`")
		case c.Healthy != nil && !c.GetHealthy():
			return false, "", failed("container "+c.GetName()+" of the new version is not healthy: "+c.GetHealthMessage(), "see `drydock pod logs "+pod.GetSpec().GetName()+"`")
		case c.GetState() != "running":
			return false, "container " + c.GetName() + " is " + c.GetState(), nil
		case probe != nil && c.Healthy == nil:
			return false, "container " + c.GetName() + " has not been asked yet", nil
		case probe == nil && !steady && !sidecar.Is(c.GetName()): // a shim has served before the pod could be reached
			return false, "container " + c.GetName() + " has no probe, and runs only for a moment", nil
		}
	}
	return true, "", nil
}

func delayOf(spec *drydockv1.PodSpec) (longest time.Duration) {
	for _, c := range spec.GetContainers() {
		p := c.GetProbe()
		longest = max(longest, p.GetInitialDelay().AsDuration()+time.Duration(max(p.GetFailureThreshold(), 1))*p.GetPeriod().AsDuration())
	}
	return longest
}

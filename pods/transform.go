package pods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/pods/sidecar"
	"drydock/pods/transform"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Transform is what makes a stopped pod another version of itself.
type Transform struct {
	// ID is the upgrade's.
	ID   string
	Spec *drydockv1.PodSpec
	// Command is run in the image of one of Spec's containers, on a copy of the local volumes; none: they stay as they are.
	Command   []string
	Container string
	Timeout   time.Duration
	// At is called at named points. May be nil.
	At func(ctx context.Context, point string)
}

// Transform makes a pod what t says, or leaves it as it is. The pod must not run.
func (r *Runtime) Transform(ctx context.Context, t Transform) error {
	pod := t.Spec.GetName()
	rec, err := r.Record(pod)
	if err != nil {
		return err
	}
	order := transform.Order{ID: t.ID}
	if order.From, err = protojson.Marshal(rec.Spec); err != nil {
		return err
	}
	t.Spec = become(rec.Spec, t.Spec)
	if order.To, err = protojson.Marshal(t.Spec); err != nil {
		return err
	}
	if len(t.Command) > 0 && hasLocal(t.Spec) {
		order.Run = func(ctx context.Context, volumes string) error { return r.runProgram(ctx, t, volumes) }
	}
	if err := r.change(pod, t.At).Do(ctx, order); err != nil {
		return fmt.Errorf("transform pod %s: %w", pod, err)
	}
	return nil
}

// Revert makes a pod what it was before the transform. The pod must not run.
func (r *Runtime) Revert(ctx context.Context, pod, id string, at func(context.Context, string)) error {
	if err := r.change(pod, at).Revert(ctx, id); err != nil {
		return fmt.Errorf("take back the transform of pod %s: %w", pod, err)
	}
	return nil
}

// Settle drops what Revert would need.
func (r *Runtime) Settle(ctx context.Context, pod, id string, at func(context.Context, string)) error {
	if err := r.change(pod, at).Settle(ctx, id); err != nil {
		return fmt.Errorf("settle the transform of pod %s: %w", pod, err)
	}
	return nil
}

// FinishTransform puts into force what was decided of a transform that was cut off. It must be called before the pod's record
// is read to start it.
func (r *Runtime) FinishTransform(ctx context.Context, pod string) error {
	if err := r.change(pod, nil).Finish(ctx); err != nil {
		return fmt.Errorf("finish the transform of pod %s: %w", pod, err)
	}
	return nil
}

// become is a pod as this host has it, with its shim's containers, after it has got what an upgrade changes: images, labels, and
// what the shim does.
func become(has, wanted *drydockv1.PodSpec) *drydockv1.PodSpec {
	next := proto.CloneOf(has)
	next.Labels, next.Shim = wanted.GetLabels(), wanted.GetShim()
	for _, c := range next.GetContainers() {
		for _, other := range wanted.GetContainers() {
			if other.GetName() == c.GetName() {
				c.Image, c.ImageDigest = other.GetImage(), other.GetImageDigest()
			}
		}
	}
	for _, c := range wanted.GetContainers() {
		if sidecar.Is(c.GetName()) && !slices.Contains(sidecar.In(next), c.GetName()) {
			next.Containers, next.Volumes = append(next.Containers, c), withVolume(next.Volumes, wanted.GetVolumes())
		}
	}
	return next
}

// withVolume adds the shim's volume where there is none.
func withVolume(has, wanted []*drydockv1.Volume) []*drydockv1.Volume {
	of := func(v *drydockv1.Volume) bool { return v.GetName() == sidecar.Name }
	if i := slices.IndexFunc(wanted, of); i >= 0 && !slices.ContainsFunc(has, of) {
		return append(has, wanted[i])
	}
	return has
}

func hasLocal(spec *drydockv1.PodSpec) bool {
	for _, v := range spec.GetVolumes() {
		if v.GetLocal() != nil {
			return true
		}
	}
	return false
}

// change is a pod's, with what this host has for it. No pod's name begins with a dot.
func (r *Runtime) change(pod string, at func(context.Context, string)) transform.Change {
	return transform.Change{
		Volumes: r.volumesDir(pod), Work: r.volumesDir("." + pod), Journal: filepath.Join(r.podDir(pod), "transform.json"),
		Install: func(ctx context.Context, spec json.RawMessage) error { return r.install(ctx, pod, spec) },
		End:     func(ctx context.Context) error { return r.endProgram(ctx, pod) },
		At:      at,
	}
}

// install gives a pod that does not run another specification. Containers of other images are made anew when it is started.
func (r *Runtime) install(ctx context.Context, pod string, data json.RawMessage) error {
	spec := new(drydockv1.PodSpec)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, spec); err != nil {
		return err
	}
	rec, err := r.Record(pod)
	if err != nil || proto.Equal(rec.Spec, spec) {
		return err
	}
	digests := make(map[string]string)
	for _, c := range spec.GetContainers() {
		digests[c.GetName()] = c.GetImageDigest()
	}
	if spec.GetShim() == nil { // its containers go, and what it keeps stays
		for _, name := range sidecar.In(spec) {
			delete(digests, name)
			sidecar.Remove(spec, name)
		}
	}
	for _, c := range rec.Spec.GetContainers() {
		if digests[c.GetName()] == c.GetImageDigest() {
			continue
		}
		if err := r.deleteContainer(ctx, pod, c.GetName()); err != nil {
			return err
		}
	}
	rec.Spec, rec.Ended, rec.Restarts = spec, false, nil
	return r.Save(rec)
}

// dropTransform removes what a transform of a pod that is removed has left.
func (r *Runtime) dropTransform(ctx context.Context, pod string) error {
	if _, err := os.Lstat(filepath.Join(r.podDir(pod), "transform.json")); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return r.change(pod, nil).Drop(ctx)
}

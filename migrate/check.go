package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/version"
	"drydock/migrate/filesync"
	"drydock/migrate/owner"
	"drydock/migrate/stack"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// check finds everything that would make the migration fail, on both sides, before anything is touched.
func (m *move) check(ctx context.Context) error {
	var reasons []*drydockv1.Refusal
	rec, err := m.Pods.Record(m.spec.Pod)
	if err != nil {
		return err
	}
	m.rec = rec
	m.peer = &drydockv1.Peer{Name: m.spec.To, Address: m.spec.ToAddress, BootId: m.spec.ToBootId}
	m.receiver = m.Peers.Receiver(m.peer)
	info, err := m.Inspect(ctx)
	if err != nil {
		return err
	}
	reasons = append(reasons, info.Problems...)
	obstacles, err := m.Pods.Obstacles(ctx, m.spec.Pod)
	if err != nil {
		return err
	}
	for _, o := range obstacles {
		reasons = append(reasons, &drydockv1.Refusal{Reason: o.Reason, Remedy: o.Remedy})
	}
	if m.needs, err = m.measure(ctx, info); err != nil {
		return err
	}
	answer, err := m.receiver.Check(ctx, connect.NewRequest(&drydockv1.ReceiveCheckRequest{Migration: m.spec, Needs: m.needs, Api: version.API}))
	if err != nil {
		return refuse(fmt.Sprintf("host %s does not answer: %v", m.spec.To, err), "bring its agent up, or choose another host")
	}
	reasons = append(reasons, answer.Msg.Refusals...)
	reasons = append(reasons, speaks(m.spec.To, answer.Msg.Info.GetApi())...)
	m.destination = owner.Place{Host: m.spec.To, BootID: answer.Msg.BootId}
	reasons = append(reasons, m.choose(info, answer.Msg.Info)...)
	images := answer.Msg.ImageBytes
	if images < 0 {
		if images, err = m.imageBytes(ctx); err != nil {
			return err
		}
	}
	m.estimate(images)
	if len(reasons) > 0 {
		return &Refused{reasons}
	}
	if m.spec.DryRun {
		return errOver
	}
	return nil
}

// speaks is why a host that speaks another version of the API cannot take part, if so.
func speaks(host string, api uint32) []*drydockv1.Refusal {
	var mismatch *version.Mismatch
	if !errors.As(version.Check("host "+host, version.API, api), &mismatch) {
		return nil
	}
	return []*drydockv1.Refusal{{Reason: mismatch.Reason(), Remedy: mismatch.Remedy()}}
}

// measure says what the pod asks of a host.
func (m *move) measure(ctx context.Context, info *drydockv1.HostInfo) (*drydockv1.PodNeeds, error) {
	needs := &drydockv1.PodNeeds{
		Spec: m.rec.Spec, Kernel: info.Kernel, CriuVersion: info.CriuVersion, Arch: info.Arch, CpuFeatures: info.CpuFeatures,
		Restarts: m.rec.Restarts,
	}
	var err error
	if needs.Started, err = m.Pods.Started(ctx, m.rec); err != nil {
		return nil, err
	}
	if needs.MemoryBytes, err = m.Pods.Memory(m.spec.Pod); err != nil {
		return nil, err
	}
	trees, err := m.Pods.Trees(ctx, m.spec.Pod)
	if err != nil {
		return nil, err
	}
	for _, t := range trees {
		bytes, _, err := filesync.Usage(t.Dir)
		if err != nil {
			return nil, fmt.Errorf("%s of pod %s: %w", t.Name, m.spec.Pod, err)
		}
		needs.DiskBytes += bytes
	}
	for _, v := range m.rec.Spec.Volumes {
		if shared := v.GetShared(); shared != nil {
			needs.SharedPaths = append(needs.SharedPaths, shared.Path)
		}
	}
	return needs, nil
}

// imageBytes is how large the pod's images are here: at most that much goes over to a host that has none of them.
func (m *move) imageBytes(ctx context.Context) (total int64, err error) {
	all, err := m.Pods.Images(ctx)
	if err != nil {
		return 0, err
	}
	counted := make(map[string]bool)
	for _, c := range m.rec.Spec.Containers {
		for _, image := range all {
			if image.Digest == c.ImageDigest && !counted[image.Digest] {
				counted[image.Digest] = true
				total += image.Size
			}
		}
	}
	return total, nil
}

// Figures of a freeze, for estimates: what it costs without any memory, and how fast memory goes from one host's CRIU
// through encryption to the other's. docs/performance.md says how they were measured.
const (
	emptyFreeze    = 350 * time.Millisecond
	memoryPerSec   = 250 << 20
	filesPerSec    = 100 << 20
	preparation    = 500 * time.Millisecond
	postcopyLeast  = 128 << 20
	defaultBudget  = time.Second
	lazyPages      = "lazy_pages"
	lazyPagesAlias = "uffd-noncoop"
)

func (m *move) estimate(images int64) {
	e := &drydockv1.Estimate{
		MemoryBytes: m.needs.MemoryBytes, FileBytes: m.needs.DiskBytes, ImageBytes: images, BandwidthBytesPerSecond: memoryPerSec,
	}
	freeze := emptyFreeze
	memory := time.Duration(float64(m.needs.MemoryBytes) / memoryPerSec * float64(time.Second))
	switch {
	case m.precopies():
		freeze += min(memory, max(leastAllowance, m.budget()-emptyFreeze))
	case !m.postcopy():
		freeze += memory
	}
	files := time.Duration(float64(m.needs.DiskBytes+images) / filesPerSec * float64(time.Second))
	e.Freeze, e.Total = durationpb.New(freeze), durationpb.New(preparation+files+emptyFreeze+memory)
	m.report.Estimate = e
}

func size(bytes int64) string { return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20)) }

// Lacks says what a pod takes for granted of its host and this one has not: the paths that its shared volumes are.
func (e *Engine) Lacks(spec *drydockv1.PodSpec) []*drydockv1.Refusal {
	var reasons []*drydockv1.Refusal
	for _, v := range spec.GetVolumes() {
		if path := v.GetShared().GetPath(); v.GetShared() != nil && !exists(path) {
			reasons = append(reasons, &drydockv1.Refusal{
				Reason: fmt.Sprintf("host %s has no %s, which is the shared volume %s", e.Here.Host, path, v.GetName()),
				Remedy: "mount the shared file system there, or make the directory on every host",
			})
		}
	}
	return reasons
}

// Check says what would keep this host from taking a pod.
func (e *Engine) Check(ctx context.Context, req *drydockv1.ReceiveCheckRequest) (*drydockv1.ReceiveCheckResponse, error) {
	info, err := e.Inspect(ctx)
	if err != nil {
		return nil, err
	}
	answer := &drydockv1.ReceiveCheckResponse{Info: info, BootId: e.Here.BootID, Refusals: slices.Clone(info.Problems)}
	no := func(remedy, format string, args ...any) {
		answer.Refusals = append(answer.Refusals, &drydockv1.Refusal{Reason: e.Here.Host + ": " + fmt.Sprintf(format, args...), Remedy: remedy})
	}
	answer.Refusals = append(answer.Refusals, speaks(req.Migration.GetFrom(), req.Api)...)
	if _, err := e.Pods.Version(ctx); err != nil {
		no("start containerd there", "containerd does not answer: %v", err)
	}
	needs := req.Needs
	if err := e.tidy(ctx, needs.Spec.Name); err != nil {
		return nil, err
	}
	if j, err := e.journals.load(needs.Spec.Name); err != nil {
		return nil, err
	} else if j.Side != "" {
		no("wait until that is over", "pod %s is already here (%s)", needs.Spec.Name, j)
	}
	for _, o := range stack.Obstacles(
		stack.Stack{Kernel: needs.Kernel, CRIU: needs.CriuVersion, Arch: needs.Arch, Features: needs.CpuFeatures},
		stack.Stack{Kernel: info.Kernel, CRIU: info.CriuVersion, Arch: info.Arch, Features: info.CpuFeatures}) {
		no(o.Remedy, "%s", o.Reason)
	}
	if wanted := needs.MemoryBytes * 2; wanted > info.MemoryAvailableBytes {
		no("move another pod away first", "%s of memory are free, receiving the pod takes %s", size(info.MemoryAvailableBytes), size(wanted))
	}
	if needs.DiskBytes+needs.DiskBytes/10 > info.DiskAvailableBytes {
		no("make room on its disk", "%s of disk are free, the pod's files take %s", size(info.DiskAvailableBytes), size(needs.DiskBytes))
	}
	answer.Refusals = append(answer.Refusals, e.Lacks(needs.Spec)...)
	for _, c := range needs.Spec.Containers {
		answer.ImageBytes += e.Pods.MissingBytes(ctx, c.ImageDigest)
	}
	taken, err := e.Pods.AddressTaken(ctx, needs.Spec)
	if err != nil {
		return nil, err
	}
	if taken != "" {
		no("stop what uses the address", "address %s is in use", taken)
	}
	return answer, nil
}

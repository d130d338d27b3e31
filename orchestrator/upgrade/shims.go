package upgrade

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
	"drydock/pods/manifest"
)

// forShims is what the shims of a service's pods have of its record.
type forShims struct {
	stored *drydockv1.ServiceRecord
	head   head
	files  map[string][]byte
	// becoming is the version that a pod which is being upgraded gets, by pod.
	becoming map[string]string
	// held are the pods that get no calls, from before they are stopped until they are healthy.
	held map[string]bool
}

func (s *Services) forShims(ctx context.Context, stored *drydockv1.ServiceRecord) (forShims, error) {
	h, err := headOf(stored)
	if err != nil {
		return forShims{}, err
	}
	files, err := s.filesOf(ctx, stored)
	if err != nil {
		return forShims{}, err
	}
	f := forShims{stored: stored, head: h, files: files, becoming: make(map[string]string), held: make(map[string]bool)}
	if stored.GetUpgrade() == "" {
		return f, nil
	}
	item, err := s.upgrade(ctx, stored.GetUpgrade())
	for _, p := range item.Value.GetPods() {
		if inProgress(p) {
			f.becoming[p.GetPod()], f.held[p.GetPod()] = item.Value.GetTo(), held(p)
		}
	}
	return f, err
}

// shimAtMost is how much a record may have with the files beside it, where pods need shims: while a pod is upgraded its record holds
// that three times, and the store takes 1.5 MiB at once.
const shimAtMost = 450 << 10

// tooLarge is why pods cannot have the record in their shims, or nil.
func (f forShims) tooLarge() *drydockv1.Refusal {
	size := len(f.stored.GetText())
	for _, data := range f.files {
		size += len(data)
	}
	if size <= shimAtMost {
		return nil
	}
	return refusal.Because(fmt.Sprintf("the record of service %s and the files beside it are %d bytes, more than the %d that the shims of pods can have", f.stored.GetName(), size, shimAtMost),
		"make them smaller, and apply the record again")
}

// held says whether a pod gets no calls.
func held(p *drydockv1.UpgradePod) bool {
	at, first, last := stepIndex(p.GetStep()), stepIndex("hold"), stepIndex("health")
	return at > first && at <= last || at == first && p.GetState() == podRunning
}

// shimOf is the shim that a pod needs, as its labels and those of all others are, or nil: where nobody can speak another version than
// it does, it has none. What somebody else has set of one that is there stays.
func (f forShims) shimOf(spec *drydockv1.PodSpec, pods []*drydockv1.Pod) *drydockv1.ShimSpec {
	ports, err := portsOf(spec)
	version := spec.GetLabels()[manifest.LabelVersion]
	needed, clients := f.audience(spec.GetName(), version, pods)
	if err != nil || len(ports) == 0 || !needed {
		return nil
	}
	shim := &drydockv1.ShimSpec{}
	if spec.GetShim().GetService() == f.stored.GetName() {
		shim = proto.CloneOf(spec.GetShim())
	}
	before := proto.CloneOf(shim)
	shim.Service, shim.Record, shim.Files, shim.Version, shim.Ports, shim.Clients = f.stored.GetName(), f.stored.GetText(), f.files, version, ports, clients
	if !proto.Equal(before, shim) {
		shim.Generation++
	}
	return shim
}

// audience says whether somebody may speak another version than a pod does, and what client pods speak, by address: who has no label
// speaks the record's default, or, while versions are mixed, what a header or a port says. A pod that is being upgraded counts as what
// it is and as what it becomes. Whoever comes through a gateway may speak any version.
func (f forShims) audience(pod, version string, pods []*drydockv1.Pod) (mixed bool, clients map[string]string) {
	mixed = f.head.Client.Default != version || f.head.Gateway != nil && len(f.head.Versions) > 1
	says := f.head.Client.Header != "" || len(f.head.Client.Ports) > 0
	for _, u := range usesOf(f.stored.GetName(), pods) {
		switch {
		case hasEnded(u.pod) || !u.client && u.pod.GetSpec().GetName() == pod:
		case u.client:
			mixed = mixed || u.version != version
			if address := addressOf(u.pod.GetSpec()); address != "" {
				if clients == nil {
					clients = make(map[string]string)
				}
				clients[address] = u.version
			}
		default:
			next := f.becoming[u.pod.GetSpec().GetName()]
			mixed = mixed || says && (u.version != version || next != "" && next != version)
		}
	}
	return mixed, clients
}

func hasPorts(pod *drydockv1.Pod) bool {
	ports, err := portsOf(pod.GetSpec())
	return err == nil && len(ports) > 0
}

// portsOf are the ports at which a pod serves: those of its label, else that of its probe.
func portsOf(spec *drydockv1.PodSpec) ([]uint32, error) {
	if label := spec.GetLabels()[manifest.LabelPorts]; label != "" {
		var ports []uint32
		for text := range strings.SplitSeq(label, ".") {
			port, err := strconv.ParseUint(text, 10, 16)
			if err != nil || port == 0 {
				return nil, fmt.Errorf("label %s: %q is no port", manifest.LabelPorts, text)
			}
			ports = append(ports, uint32(port))
		}
		return ports, nil
	}
	switch probe := serving(spec).GetProbe().GetAction().(type) {
	case *drydockv1.Probe_Http:
		return []uint32{probe.Http.GetPort()}, nil
	case *drydockv1.Probe_Tcp:
		return []uint32{probe.Tcp.GetPort()}, nil
	}
	return nil, nil
}

package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/store"
	"drydock/pods/manifest"
)

// forShims is what the shims of a service's pods have of its record.
type forShims struct {
	stored *drydockv1.ServiceRecord
	head   head
	files  map[string][]byte
}

func (s *Services) forShims(ctx context.Context, stored *drydockv1.ServiceRecord) (forShims, error) {
	h, err := headOf(stored)
	if err != nil {
		return forShims{}, err
	}
	files, err := s.filesOf(ctx, stored)
	return forShims{stored: stored, head: h, files: files}, err
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
// speaks the record's default, or, while versions are mixed, what a header or a port says.
func (f forShims) audience(pod, version string, pods []*drydockv1.Pod) (mixed bool, clients map[string]string) {
	mixed = f.head.Client.Default != version
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
			mixed = mixed || says && u.version != version
		}
	}
	return mixed, clients
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

// settleShims gives pods the shims that they need, and takes away those that nobody needs any more. Pods that are being upgraded
// are left to that.
func (s *Services) settleShims(ctx context.Context) error {
	items, err := store.List[drydockv1.ServiceRecord](ctx, s.Store, s.Prefix+"services/")
	if err != nil || len(items) == 0 {
		return err
	}
	pods, err := s.Controller.ListPods(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, item := range items {
		f, err := s.forShims(ctx, item.Value)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		busy, err := s.inUpgrade(ctx, item.Value)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, u := range usesOf(f.stored.GetName(), pods) {
			if !u.client && u.pod.GetPhase() == drydockv1.PodPhase_POD_PHASE_RUNNING && !slices.Contains(busy, u.pod.GetSpec().GetName()) {
				s.settleShim(ctx, u.pod.GetSpec(), f.shimOf(u.pod.GetSpec(), pods))
			}
		}
	}
	return errors.Join(errs...)
}

// settleShim logs why it cannot once, not with every look.
func (s *Services) settleShim(ctx context.Context, spec *drydockv1.PodSpec, wanted *drydockv1.ShimSpec) {
	if proto.Equal(spec.GetShim(), wanted) {
		return
	}
	why := ""
	if err := s.Controller.SetShim(ctx, spec.GetName(), wanted); err != nil {
		why = err.Error()
	}
	if why != s.shimless[spec.GetName()] && why != "" && ctx.Err() == nil {
		s.Log.Warn("the shim of a pod is not as its service needs it", "pod", spec.GetName(), "error", why)
	}
	s.shimless[spec.GetName()] = why
}

// inUpgrade are the pods that an upgrade of a service has at the moment.
func (s *Services) inUpgrade(ctx context.Context, stored *drydockv1.ServiceRecord) ([]string, error) {
	if stored.GetUpgrade() == "" {
		return nil, nil
	}
	item, err := s.upgrade(ctx, stored.GetUpgrade())
	if err != nil {
		return nil, err
	}
	var busy []string
	for _, p := range item.Value.GetPods() {
		if inProgress(p) {
			busy = append(busy, p.GetPod())
		}
	}
	return busy, nil
}

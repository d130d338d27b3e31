package upgrade

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

// Controller is what upgrades ask of the controller that they are a part of.
type Controller interface {
	// Lead is the present term: what is done in its context ends with it, and writes nothing after it.
	Lead(ctx context.Context) (context.Context, error)
	// Lock keeps others from what is done under a name.
	Lock(name string) (unlock func())
	ListPods(ctx context.Context) ([]*drydockv1.Pod, error)
	// GetPod's epoch is that of its owner.
	GetPod(ctx context.Context, name string) (*drydockv1.Pod, error)
	// ChangePod changes what a pod's record asks for, and Converge makes the pod that.
	ChangePod(ctx context.Context, name string, change func(*drydockv1.PodRecord) error) error
	Converge(ctx context.Context, name string) error
	// Resolve fills in the digests of a specification's images.
	Resolve(ctx context.Context, spec *drydockv1.PodSpec) error
	ImageHosts(ctx context.Context, spec *drydockv1.PodSpec) ([]*drydockv1.Peer, error)
	// Agent is a host's; a host that is dead or forgotten has none, and gone says so.
	Agent(ctx context.Context, what, host string) (agent drydockv1connect.AgentServiceClient, gone bool, err error)
	// RunPod runs a pod, anywhere, and RemovePod removes one, whether it runs or not.
	RunPod(ctx context.Context, spec *drydockv1.PodSpec) error
	RemovePod(ctx context.Context, name string) error
	// SetShim makes a pod's shim be as asked while the pod runs; nil takes it away. One that is of another generation than it was, since
	// somebody else was faster, is left as it is, and that is ErrShimChanged; 0: there was none.
	SetShim(ctx context.Context, pod string, was uint64, shim *drydockv1.ShimSpec) error
	// Record enters what was done without anybody having asked for it now.
	Record(ctx context.Context, verb, object, reason string, err error)
	// Requester is who asks.
	Requester(ctx context.Context) string
}

// Config of Services.
type Config struct {
	Store      *store.Store
	Controller Controller
	Log        *slog.Logger
	Now        func() time.Time
	// Prefix is where all lies in the store.
	Prefix string
	// LookEvery is how often is looked for what nobody reports.
	LookEvery time.Duration
	// Steady is how long a pod without a probe must have run to count as healthy.
	Steady time.Duration
	// Fault is called at named points and ends what is being done where it returns an error.
	Fault func(point string) error
}

// Services are those of one controller, with their upgrades.
type Services struct {
	Config
	mu         sync.Mutex
	executions map[string]*execution
	// shimless is why a pod's shim is not as it should be, by pod; only whoever settles shims uses it.
	shimless map[string]string
}

// New makes Services; Run carries upgrades out.
func New(cfg Config) *Services {
	return &Services{Config: cfg, executions: make(map[string]*execution), shimless: make(map[string]string)}
}

func (s *Services) serviceKey(name string) string { return s.Prefix + "services/" + name }
func (s *Services) upgradeKey(id string) string   { return s.Prefix + "upgrades/" + id }

type serviceItem = store.Item[*drydockv1.ServiceRecord]

func (s *Services) service(ctx context.Context, name string) (serviceItem, error) {
	item, err := store.Get[drydockv1.ServiceRecord](ctx, s.Store, s.serviceKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return serviceItem{}, refusal.NotFound("service", name, "drydock service ls")
	}
	return item, err
}

// changeService changes a record that is there.
func (s *Services) changeService(ctx context.Context, name string, change func(*drydockv1.ServiceRecord) error) error {
	_, err := store.Update(ctx, s.Store, s.serviceKey(name), func(item serviceItem) error {
		if item.Revision == 0 {
			return refusal.NotFound("service", name, "drydock service ls")
		}
		return change(item.Value)
	})
	return err
}

// apply checks a record, and puts it in the place of the one that was there.
func (s *Services) apply(ctx context.Context, m *drydockv1.ApplyServiceRequest, by string) (*drydockv1.ApplyServiceResponse, error) {
	defer s.Controller.Lock("services")()
	r, err := checked(ctx, m)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.Service != m.GetName() {
		return nil, invalid("the record is of service %s, and %s was named", r.Service, m.GetName())
	}
	before, err := store.Get[drydockv1.ServiceRecord](ctx, s.Store, s.serviceKey(r.Service))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if err := s.mayReplace(ctx, before.Value, r.Service, r.Versions); err != nil {
		return nil, err
	}
	now := &drydockv1.ServiceRecord{
		Name: r.Service, Text: m.GetText(), File: m.GetFile(), Applied: timestamppb.New(s.Now()), AppliedBy: by,
		Upgrade: before.Value.GetUpgrade(), Flags: before.Value.GetFlags(), Images: before.Value.GetImages(),
	}
	if now.Files, err = s.keepFiles(ctx, m.GetFiles()); err != nil {
		return nil, err
	}
	_, err = s.Store.Txn().If(store.Unchanged(s.serviceKey(r.Service), before.Revision)).Put(s.serviceKey(r.Service), now).Commit(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.dropFiles(ctx); err != nil {
		s.Log.Warn("files of an earlier record are still stored", "service", r.Service, "error", err)
	}
	if err := s.dropGateway(ctx, before.Value, now); err != nil {
		s.Log.Warn("the gateway of an earlier record is still there", "service", r.Service, "error", err)
	}
	wire, err := s.get(ctx, r.Service)
	return &drydockv1.ApplyServiceResponse{Service: wire, Replaced: before.Revision != 0}, err
}

// mayReplace refuses a record that does not know a version that is in use, and any while an upgrade goes by the old one.
func (s *Services) mayReplace(ctx context.Context, before *drydockv1.ServiceRecord, name string, versions []string) error {
	what := "apply service " + name
	if id := before.GetUpgrade(); id != "" {
		return refusal.New(what, refusal.Because("upgrade "+id+" goes by the record that is there", "wait for its end, or end it: `drydock upgrade abort "+id+"`"))
	}
	pods, err := s.Controller.ListPods(ctx)
	if err != nil {
		return err
	}
	var reasons []*drydockv1.Refusal
	for _, use := range usesOf(name, pods) {
		if !slices.Contains(versions, use.version) {
			reasons = append(reasons, refusal.Because("pod "+use.pod.GetSpec().GetName()+" "+use.how()+", which the record does not know",
				"keep "+use.version+" in the record until nothing uses it"))
		}
	}
	return refusal.New(what, reasons...)
}

// remove forgets a service that no pod uses.
func (s *Services) remove(ctx context.Context, name string) error {
	defer s.Controller.Lock("services")()
	item, err := s.service(ctx, name)
	if err != nil {
		return err
	}
	pods, err := s.Controller.ListPods(ctx)
	if err != nil {
		return err
	}
	var reasons []*drydockv1.Refusal
	for _, use := range usesOf(name, pods) {
		pod := use.pod.GetSpec().GetName()
		reasons = append(reasons, refusal.Because("pod "+pod+" "+use.how(), "remove the pod: `drydock pod rm "+pod+"`"))
	}
	if id := item.Value.GetUpgrade(); id != "" {
		reasons = append(reasons, refusal.Because("upgrade "+id+" has not ended", "end it: `drydock upgrade abort "+id+"`"))
	}
	if err := refusal.New("remove service "+name, reasons...); err != nil {
		return err
	}
	if _, err := s.Store.Txn().If(store.Unchanged(item.Key, item.Revision)).Delete(item.Key).Commit(ctx); err != nil {
		return err
	}
	return errors.Join(s.dropGateway(ctx, item.Value, nil), s.dropFiles(ctx))
}

// setFlag sets or clears a flag that schedules wait for.
func (s *Services) setFlag(ctx context.Context, name, flag string, clear bool) error {
	if flag == "" {
		return invalid("flag of service %s: it needs a name", name)
	}
	return s.changeService(ctx, name, func(record *drydockv1.ServiceRecord) error {
		set := slices.Contains(record.GetFlags(), flag)
		switch {
		case set != clear:
			return store.ErrUnchanged
		case clear:
			record.Flags = slices.DeleteFunc(record.Flags, func(f string) bool { return f == flag })
		default:
			record.Flags = append(record.Flags, flag)
		}
		return nil
	})
}

// Admit refuses a pod that says it is of a service, or speaks to one, in a version that the service does not have. The caller holds
// the lock "services" until the pod is on record.
func (s *Services) Admit(ctx context.Context, spec *drydockv1.PodSpec) error {
	var reasons []*drydockv1.Refusal
	if _, err := portsOf(spec); err != nil {
		reasons = append(reasons, refusal.Because(err.Error(), "write ports with dots between them, as 8080.8081"))
	}
	for _, use := range usesBy(&drydockv1.Pod{Spec: spec}) {
		item, err := store.Get[drydockv1.ServiceRecord](ctx, s.Store, s.serviceKey(use.service))
		if errors.Is(err, store.ErrNotFound) {
			reasons = append(reasons, refusal.Because("there is no service "+use.service, "apply its record: `drydock service apply FILE`"))
			continue
		} else if err != nil {
			return err
		}
		versions, err := versionsOf(item.Value)
		if err != nil {
			return err
		}
		if !slices.Contains(versions, use.version) {
			reasons = append(reasons, refusal.Because("it "+use.how()+", which its record does not know", "choose one that `drydock service show "+use.service+"` has"))
			continue
		}
		why, err := s.tooEarly(ctx, item.Value, versions, use)
		if err != nil {
			return err
		}
		reasons = append(reasons, why...)
	}
	return refusal.New("run pod "+spec.GetName(), reasons...)
}

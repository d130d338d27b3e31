package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/config"
	"drydock/internal/pki"
	"drydock/internal/version"
	"drydock/migrate/owner"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

// lab is a controller and its hosts, on loopback.
type lab struct {
	*testing.T
	dir  string
	port string

	*Controller
	cancel  context.CancelFunc
	stopped chan error
	admin   drydockv1connect.ControllerServiceClient
	// rollouts is what an operator asks of pools.
	rollouts drydockv1connect.RolloutServiceClient
	// upgrades is what an operator asks of services.
	upgrades drydockv1connect.UpgradeServiceClient
	// etcd is an external store; zero for the controller's own.
	etcd config.Etcd
	// fault is what the next controller's fault is.
	fault func(string) error
	// network is the next controller's `network.kind`, where it is not the default.
	network string
	// patience is how long a host may be silent; 0: a second.
	patience time.Duration
	// clock is the next controllers'; nil: the machine's.
	clock func() time.Time
}

func newLab(t *testing.T, options ...func(*lab)) *lab {
	t.Helper()
	t.Parallel()
	return newLabOn(t, config.Etcd{}, options...)
}

// newLabOn is newLab over a store of the test's.
func newLabOn(t *testing.T, etcd config.Etcd, options ...func(*lab)) *lab {
	t.Helper()
	l := &lab{T: t, dir: t.TempDir(), port: "0", etcd: etcd}
	for _, option := range options {
		option(l)
	}
	l.start()
	t.Cleanup(func() {
		if l.cancel != nil {
			l.stop()
		}
	})
	return l
}

func (l *lab) settings() config.Controller {
	cfg, err := config.LoadController("", nil)
	if err != nil {
		l.Fatal(err)
	}
	cfg.Name, cfg.Etcd = "c1", l.etcd
	cfg.Listen = "127.0.0.1:" + l.port
	cfg.DataDir = filepath.Join(l.dir, "data")
	cfg.Socket = filepath.Join(l.dir, "s")
	cfg.PoolsDir = filepath.Join(l.dir, "pools")
	l.must(os.MkdirAll(cfg.PoolsDir, 0o700))
	cfg.PodCIDR, cfg.PodPrefixLength, cfg.Gateway = "10.77.128.0/28", 16, "10.77.0.1"
	if l.network != "" {
		cfg.Network.Kind = l.network
	}
	cfg.Timings = config.Timings{
		ReportInterval: 20 * time.Millisecond, UnreachableAfter: cmp.Or(l.patience, time.Second),
		ReconcileInterval: 20 * time.Millisecond, CallTimeout: 5 * time.Second, CreateTimeout: 10 * time.Second, BootTimeout: 10 * time.Minute,
	}
	return cfg
}

// start is orchestrator.Run, with what tests need of its inside.
func (l *lab) start() {
	l.Helper()
	cfg := l.settings()
	db, err := store.Open(l.Context(), storeConfig(cfg, nil, nil))
	l.must(err)
	ca, err := loadCA(l.Context(), db, cfg.DataDir, time.Now)
	l.must(err)
	keeper, err := ownCertificate(cfg, ca, pki.SystemClock{})
	l.must(err)
	l.must(adminCredentials(cfg.DataDir, ca, time.Now()))
	on, err := listen(l.Context(), cfg.Listen, cfg.Socket)
	l.must(err)
	l.port = strconv.Itoa(on.tls.Addr().(*net.TCPAddr).Port)
	cfg.Listen = "127.0.0.1:" + l.port
	l.Controller = newController(cfg, slog.New(slog.NewTextHandler(l.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})), db, ca, keeper)
	if l.fault != nil {
		l.Controller.fault = l.fault
	}
	if l.clock != nil {
		l.Controller.now = l.clock
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel, l.stopped = cancel, make(chan error, 1)
	running := l.Controller
	go func() { l.stopped <- errors.Join(running.run(ctx, on), db.Close()) }()
	client, base, err := pki.Client("unix://"+cfg.Socket, nil, nil)
	l.must(err)
	l.Cleanup(client.CloseIdleConnections)
	l.admin = drydockv1connect.NewControllerServiceClient(client, base)
	l.rollouts = drydockv1connect.NewRolloutServiceClient(client, base)
	l.upgrades = drydockv1connect.NewUpgradeServiceClient(client, base)
	l.eventually("the controller leads", func() bool {
		_, err := l.leading(l.Context())
		return err == nil
	})
}

func (l *lab) stop() {
	l.Helper()
	l.cancel()
	l.must(<-l.stopped)
	l.cancel = nil
}

// dieAt makes this controller die when it comes to a fault point.
func (l *lab) dieAt(point string) (died <-chan struct{}) {
	gone := make(chan struct{})
	var once sync.Once
	c := l.Controller
	cancel := l.cancel
	c.fault = func(at string) error {
		if at != point {
			return nil
		}
		once.Do(func() {
			cancel()
			close(gone)
		})
		return context.Canceled
	}
	return gone
}

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// eventually waits for something that the controller does by itself.
func (l *lab) eventually(what string, holds func() bool) {
	l.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			l.Fatalf("not in 2 minutes: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (l *lab) refused(err error, reasons ...string) {
	l.Helper()
	if connect.CodeOf(err) != connect.CodeFailedPrecondition {
		l.Fatalf("not refused: %v", err)
	}
	got := refusal.Of(err)
	if len(got) != len(reasons) {
		l.Fatalf("got %d reasons, want %d: %v", len(got), len(reasons), err)
	}
	for i, want := range reasons {
		if !contains(got[i].GetReason(), want) || got[i].GetRemedy() == "" {
			l.Errorf("reason %d is %q with remedy %q, want %q", i, got[i].GetReason(), got[i].GetRemedy(), want)
		}
	}
}

func (l *lab) run(name, on string) (*drydockv1.Pod, error) {
	return l.runSpec(&drydockv1.PodSpec{Name: name, Containers: []*drydockv1.Container{{Image: "redis:7"}}}, on)
}

func (l *lab) runSpec(spec *drydockv1.PodSpec, on string) (*drydockv1.Pod, error) {
	stream, err := l.admin.RunPod(context.Background(), connect.NewRequest(&drydockv1.RunPodRequest{Spec: spec, Host: on}))
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var pod *drydockv1.Pod
	for stream.Receive() {
		if p := stream.Msg().GetPod(); p != nil {
			pod = p
		}
	}
	return pod, stream.Err()
}

func (l *lab) mustRun(name, on string) *drydockv1.Pod {
	l.Helper()
	pod, err := l.run(name, on)
	l.must(err)
	return pod
}

func (l *lab) view(name string) *drydockv1.Pod {
	l.Helper()
	response, err := l.admin.GetPod(context.Background(), connect.NewRequest(&drydockv1.GetPodRequest{Name: name}))
	l.must(err)
	return response.Msg.GetPod()
}

func (l *lab) owner(name string) owner.Record {
	l.Helper()
	record, err := l.ownerOf(context.Background(), name)
	l.must(err)
	return record
}

// fakeHost is an agent that runs pods in its head.
type fakeHost struct {
	drydockv1connect.UnimplementedAgentServiceHandler
	l       *lab
	name    string
	keeper  *pki.Keeper
	address string
	coord   drydockv1connect.CoordinationServiceClient
	server  *http.Server
	quit    chan struct{}
	done    sync.WaitGroup

	mu       sync.Mutex
	boot     string
	memory   int64
	pods     map[string]uint64
	remains  map[string]bool
	started  map[string]int
	refuse   error
	silent   bool
	terms    []string
	migrate  func(ctx context.Context, spec *drydockv1.MigrationSpec, send func(*drydockv1.MigratePodResponse) error) error
	owners   map[string]owner.Record
	answered int
	summary  *drydockv1.StatusSummary
	labels   map[string]string
	// damaged is why pods here cannot be looked at.
	damaged map[string]string
	// network is what the controller said last of the pods' network; noVXLAN why this host has none.
	network *drydockv1.PodNetwork
	noVXLAN string
	// patcher is its PatchService.
	patcher *fakePatcher
	// upgrades is what upgrades have done here.
	upgrades fakeUpgrades
	// reach is what the network between this host and another does; nil: it carries everything.
	reach func(peer string) *drydockv1.ReachPeerResponse
}

// join lets a host join over the network, as agents do, and starts it.
func (l *lab) join(name string) *fakeHost {
	l.Helper()
	h := &fakeHost{
		l: l, name: name, boot: name + "-boot-1", memory: 1 << 30, quit: make(chan struct{}),
		pods: make(map[string]uint64), remains: make(map[string]bool), started: make(map[string]int), owners: make(map[string]owner.Record),
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	l.must(err)
	h.address = listener.Addr().String()
	response, err := l.admin.CreateJoinToken(l.Context(), connect.NewRequest(&drydockv1.CreateJoinTokenRequest{Host: name}))
	l.must(err)
	h.keeper, _, err = pki.Join(l.Context(), h.request(response.Msg.GetToken()), pki.SystemClock{})
	l.must(err)
	client, base, err := pki.Client("https://127.0.0.1:"+l.port, h.keeper, pki.ExpectKind(pki.Controller))
	l.must(err)
	h.coord = drydockv1connect.NewCoordinationServiceClient(client, base)
	h.patcher = &fakePatcher{h: h, steps: map[string]int{}}
	mux := http.NewServeMux()
	mux.Handle(drydockv1connect.NewAgentServiceHandler(h))
	mux.Handle(drydockv1connect.NewPatchServiceHandler(h.patcher))
	h.server = &http.Server{Handler: pki.NewGuard(pki.AgentPolicy(), time.Now).TLS(mux), TLSConfig: h.keeper.ServerTLS(false), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = h.server.ServeTLS(listener, "", "") }()
	h.done.Go(h.reportAlways)
	l.Cleanup(func() {
		close(h.quit)
		h.done.Wait()
		_ = h.server.Close()
		client.CloseIdleConnections()
	})
	l.eventually(name+" is ready", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.answered > 0
	})
	return h
}

// joinAll lets hosts join, and waits until pods can move between them.
func (l *lab) joinAll(names ...string) []*fakeHost {
	l.Helper()
	var hosts []*fakeHost
	for _, name := range names {
		hosts = append(hosts, l.join(name))
	}
	l.proven()
	return hosts
}

// proven waits until every two of the hosts have proven the network between them.
func (l *lab) proven() {
	l.Helper()
	l.eventually("the network between all hosts is proven", func() bool {
		hosts, err := l.listHosts(l.Context())
		l.must(err)
		for _, h := range hosts {
			for _, link := range h.GetLinks() {
				if link.GetState() != linkProven {
					return false
				}
			}
		}
		return true
	})
}

func (h *fakeHost) Doctor(context.Context, *connect.Request[drydockv1.DoctorHostRequest]) (*connect.Response[drydockv1.DoctorHostResponse], error) {
	return connect.NewResponse(&drydockv1.DoctorHostResponse{}), nil
}

func (h *fakeHost) ReachPeer(_ context.Context, request *connect.Request[drydockv1.ReachPeerRequest]) (*connect.Response[drydockv1.ReachPeerResponse], error) {
	m := request.Msg
	if m.GetProbeAddress() == "" || m.GetAnswerAddress() == "" || m.GetProbeAddress() == m.GetAnswerAddress() {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("a probe needs two addresses"))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reach != nil {
		return connect.NewResponse(h.reach(m.GetPeer().GetName())), nil
	}
	return connect.NewResponse(&drydockv1.ReachPeerResponse{Reachable: true, CarriesForeignMac: true, Tried: true}), nil
}

func (h *fakeHost) request(token string) pki.JoinRequest {
	return pki.JoinRequest{
		Controllers: []string{"https://127.0.0.1:" + h.l.port}, Token: token, Name: h.name, Address: h.address,
		BootID: h.boot, API: version.API, Dir: h.l.TempDir(),
	}
}

func (h *fakeHost) reportAlways() {
	for {
		select {
		case <-h.quit:
			return
		case <-time.After(20 * time.Millisecond):
		}
		h.mu.Lock()
		silent := h.silent
		h.mu.Unlock()
		if !silent {
			h.report()
		}
	}
}

// report reports, and cleans up what was removed or is another host's.
func (h *fakeHost) report() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	h.mu.Lock()
	request := &drydockv1.ReportRequest{BootId: h.boot, Address: h.address, Info: &drydockv1.HostInfo{MemoryAvailableBytes: h.memory, Api: version.API}, Summary: h.summary}
	request.Info.Network, request.Info.VxlanProblem = "bridge", h.noVXLAN
	request.Info.Labels = h.labels
	if h.network.GetKind() == "vxlan" {
		request.Info.Network = "vxlan"
		if h.noVXLAN != "" {
			request.Info.Network, request.Info.NetworkReason = "bridge", h.noVXLAN
		}
	}
	for name := range h.remains {
		pod := &drydockv1.Pod{Spec: &drydockv1.PodSpec{Name: name}}
		if why := h.damaged[name]; why != "" {
			pod.Phase, pod.Message = phaseUnknown, why
		}
		request.Pods = append(request.Pods, pod)
	}
	h.mu.Unlock()
	response, err := h.coord.Report(ctx, connect.NewRequest(request))
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answered++
	h.network = response.Msg.GetNetwork()
	for _, wire := range response.Msg.GetOwners() {
		if len(wire.GetRecord()) == 0 {
			continue
		}
		record, err := owner.Decode(wire.GetRecord(), wire.GetRevision())
		if err != nil {
			h.l.Error(err)
			continue
		}
		if record.Revision < h.owners[record.Pod].Revision || record.Epoch < h.pods[record.Pod] {
			continue // what it knows is newer
		}
		h.owners[record.Pod] = record
		if record.State == owner.Removed || record.Owner.Host != h.name && record.State == owner.Running && record.Settled {
			delete(h.pods, record.Pod)
			delete(h.remains, record.Pod)
		}
	}
}

func (h *fakeHost) note(header http.Header) error {
	h.terms = append(h.terms, header.Get(LeadershipHeader))
	return h.refuse
}

func (h *fakeHost) GetHostInfo(context.Context, *connect.Request[drydockv1.GetHostInfoRequest]) (*connect.Response[drydockv1.GetHostInfoResponse], error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return connect.NewResponse(&drydockv1.GetHostInfoResponse{BootId: h.boot}), nil
}

func (h *fakeHost) CreatePod(_ context.Context, request *connect.Request[drydockv1.CreatePodRequest]) (*connect.Response[drydockv1.CreatePodResponse], error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.note(request.Header()); err != nil {
		return nil, err
	}
	name := request.Msg.GetSpec().GetName()
	if name == h.upgrades.unmade {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("it is busy"))
	}
	if _, runs := h.pods[name]; !runs {
		h.started[name]++
	}
	h.pods[name] = request.Msg.GetEpoch()
	h.remains[name] = true
	h.upgrades.created(request.Msg.GetSpec())
	return connect.NewResponse(&drydockv1.CreatePodResponse{}), nil
}

func (h *fakeHost) StopAgentPod(_ context.Context, request *connect.Request[drydockv1.StopAgentPodRequest]) (*connect.Response[drydockv1.StopAgentPodResponse], error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.pods, request.Msg.GetName())
	return connect.NewResponse(&drydockv1.StopAgentPodResponse{}), nil
}

func (h *fakeHost) RemoveAgentPod(_ context.Context, request *connect.Request[drydockv1.RemoveAgentPodRequest]) (*connect.Response[drydockv1.RemoveAgentPodResponse], error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, runs := h.pods[request.Msg.GetName()]; runs {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("it runs"))
	}
	delete(h.remains, request.Msg.GetName())
	delete(h.upgrades.specs, request.Msg.GetName())
	return connect.NewResponse(&drydockv1.RemoveAgentPodResponse{}), nil
}

func (h *fakeHost) ImportArchive(_ context.Context, stream *connect.ClientStream[drydockv1.ImportImageRequest]) (*connect.Response[drydockv1.ImportImageResponse], error) {
	size, reference := 0, ""
	for stream.Receive() {
		size += len(stream.Msg().GetData())
		if header := stream.Msg().GetHeader(); header != nil {
			reference = header.GetReference()
		}
	}
	if size == 0 {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("archive is empty"))
	}
	image := &drydockv1.Image{Reference: reference, Digest: "sha256:" + strconv.Itoa(size), SizeBytes: int64(size)}
	return connect.NewResponse(&drydockv1.ImportImageResponse{Images: []*drydockv1.Image{image}}), stream.Err()
}

func (h *fakeHost) Exec(_ context.Context, stream *connect.BidiStream[drydockv1.ExecRequest, drydockv1.ExecResponse]) error {
	for {
		message, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return stream.Send(&drydockv1.ExecResponse{Event: &drydockv1.ExecResponse_ExitCode{ExitCode: 7}})
		} else if err != nil {
			return err
		}
		if data := message.GetStdin(); data != nil {
			if err := stream.Send(&drydockv1.ExecResponse{Event: &drydockv1.ExecResponse_Stdout{Stdout: data}}); err != nil {
				return err
			}
		}
	}
}

func (h *fakeHost) GetLogs(_ context.Context, request *connect.Request[drydockv1.GetPodLogsRequest], stream *connect.ServerStream[drydockv1.GetPodLogsResponse]) error {
	return stream.Send(&drydockv1.GetPodLogsResponse{Data: []byte("log of " + request.Msg.GetPod())})
}

func (h *fakeHost) Migrate(ctx context.Context, request *connect.Request[drydockv1.AgentMigrateRequest], stream *connect.ServerStream[drydockv1.MigratePodResponse]) error {
	h.mu.Lock()
	err, migrate := h.note(request.Header()), h.migrate
	h.mu.Unlock()
	if err != nil {
		return err
	}
	return migrate(ctx, request.Msg.GetSpec(), stream.Send)
}

// runs says whether a pod runs here.
func (h *fakeHost) runs(pod string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.pods[pod]
	return ok
}

func (h *fakeHost) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// image makes redis:7 known.
func (l *lab) image(host string) {
	l.Helper()
	stream := l.admin.ImportImage(l.Context())
	l.must(stream.Send(&drydockv1.ImportImageRequest{Header: &drydockv1.ImportImageHeader{Reference: "redis:7", Host: host}}))
	l.must(stream.Send(&drydockv1.ImportImageRequest{Data: []byte("archive")}))
	_, err := stream.CloseAndReceive()
	l.must(err)
}

func sameSpec(a, b *drydockv1.PodSpec) bool { return proto.Equal(a, b) }

func contextWithCancel(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return ctx, cancel
}

// Package rig brings up a lab whose hosts belong to its own controllers, and drives it as an operator would: what the demo,
// the soak, the fault tests and the benchmarks stand on.
package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/reach"
	"drydock/lab"
	"drydock/lab/images"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Rig is a lab with a client of its controllers.
type Rig struct {
	*lab.Lab
	drydockv1connect.ControllerServiceClient
	drydockv1connect.RolloutServiceClient
	drydockv1connect.AccessServiceClient
	drydockv1connect.ClusterServiceClient
}

// Up brings a lab up, removing what is left of one of that name first, also when it still runs.
func Up(ctx context.Context, options lab.Options) (*Rig, error) {
	if err := lab.Down(ctx, options.Name); err != nil && !errors.Is(err, lab.ErrNotFound) {
		return nil, err
	}
	options.Join, options.WaitReady = Join, Ready
	l, err := lab.Up(ctx, options)
	if err != nil {
		return nil, err
	}
	return newRig(l), nil
}

// Open finds a lab that is up.
func Open(name string) (*Rig, error) {
	l, err := lab.Open(name)
	if err != nil {
		return nil, err
	}
	return newRig(l), nil
}

// Down removes the lab and everything in it.
func (r *Rig) Down(ctx context.Context) error { return lab.Down(ctx, r.Name()) }

func newRig(l *lab.Lab) *Rig {
	client, base := transport(l)
	return &Rig{
		l, Client(l), drydockv1connect.NewRolloutServiceClient(client, base), drydockv1connect.NewAccessServiceClient(client, base),
		drydockv1connect.NewClusterServiceClient(client, base),
	}
}

// Client talks to the first of a lab's controllers that answers, over their sockets, which only root may use.
func Client(l *lab.Lab) drydockv1connect.ControllerServiceClient {
	client, base := transport(l)
	return drydockv1connect.NewControllerServiceClient(client, base)
}

// ClientOf talks to one of a lab's controllers and to no other, for as long as that takes.
func ClientOf(l *lab.Lab, node string) (client *http.Client, base string) {
	return over(socket(l.SocketOf(node)))
}

// transport reaches a lab's controllers.
func transport(l *lab.Lab) (client *http.Client, base string) {
	sockets := l.Sockets()
	if len(sockets) == 1 {
		return over(socket(sockets[0]))
	}
	var ways []reach.Dial
	for _, path := range sockets {
		ways = append(ways, reach.InTheClear(socket(path)))
	}
	client, base = over(reach.First(ways...))
	client.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
	return client, base
}

func socket(path string) reach.Dial {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
}

// A controller that is paused keeps its connections: one that is silent for pingAfter is asked for a sign of life.
const (
	pingAfter   = 10 * time.Second
	pingTimeout = 5 * time.Second
)

func over(dial reach.Dial) (client *http.Client, base string) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: protocols, DialContext: dial}}, "http://localhost"
}

// ImportImages builds the demo's images, or finds them in the cache, and imports them as redis, postgres, nginx and
// workbench on the host that is named; others fetch what they need.
func (r *Rig) ImportImages(ctx context.Context, host string, progress io.Writer, names ...string) error {
	set, err := images.Build(ctx, images.DefaultCache, progress)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := r.ImportArchive(ctx, set.Path(name), name, host); err != nil {
			return fmt.Errorf("import image %s: %w", name, err)
		}
	}
	return nil
}

// ImportArchive imports an image under a name on a host.
func (r *Rig) ImportArchive(ctx context.Context, path, reference, host string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	stream := r.ImportImage(ctx)
	header := &drydockv1.ImportImageHeader{Reference: reference, Host: host}
	if err := stream.Send(&drydockv1.ImportImageRequest{Header: header}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	buf := make([]byte, 1<<20)
	for {
		n, err := file.Read(buf)
		if n > 0 {
			if serr := stream.Send(&drydockv1.ImportImageRequest{Data: buf[:n]}); serr != nil {
				break // the answer says why
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	_, err = stream.CloseAndReceive()
	return err
}

// Run starts a pod on a host and returns it once it runs.
func (r *Rig) Run(ctx context.Context, spec *drydockv1.PodSpec, host string) (*drydockv1.Pod, error) {
	stream, err := r.RunPod(ctx, connect.NewRequest(&drydockv1.RunPodRequest{Spec: spec, Host: host}))
	if err != nil {
		return nil, fmt.Errorf("run pod %s: %w", spec.Name, err)
	}
	defer stream.Close()
	var pod *drydockv1.Pod
	for stream.Receive() {
		if p := stream.Msg().GetPod(); p != nil {
			pod = p
		}
	}
	if err := stream.Err(); err != nil {
		return nil, fmt.Errorf("run pod %s: %w", spec.Name, err)
	}
	return pod, nil
}

// Move migrates a pod and returns the report, also of a migration that was refused or aborted; then err says why.
func (r *Rig) Move(ctx context.Context, pod, to string, mode drydockv1.MigrationMode, progress func(*drydockv1.MigrationProgress)) (*drydockv1.MigrationReport, error) {
	stream, err := r.MigratePod(ctx, connect.NewRequest(&drydockv1.MigratePodRequest{
		Pod: pod, To: to, Mode: mode, AllowPostcopy: mode == drydockv1.MigrationMode_MIGRATION_MODE_POSTCOPY, DowntimeBudget: durationpb.New(0),
	}))
	if err != nil {
		return nil, fmt.Errorf("migrate %s to %s: %w", pod, to, err)
	}
	defer stream.Close()
	var report *drydockv1.MigrationReport
	for stream.Receive() {
		if p := stream.Msg().GetProgress(); p != nil && progress != nil {
			progress(p)
		}
		if got := stream.Msg().GetReport(); got != nil {
			report = got
		}
	}
	if err := stream.Err(); err != nil {
		return report, fmt.Errorf("migrate %s to %s: %w", pod, to, err)
	}
	if report.GetOutcome() != drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED {
		return report, fmt.Errorf("migrate %s to %s: %s: %s", pod, to, report.GetOutcome(), report.GetError())
	}
	return report, nil
}

package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/pki"
	"drydock/migrate/owner"

	"connectrpc.com/connect"
)

// storeClient asks the controllers, whichever answers, for what only the store can say. It implements migrate.Store.
type storeClient struct {
	all []controller

	mu    sync.Mutex
	first int // the one that answered last
}

type controller struct {
	url          string
	coordination drydockv1connect.CoordinationServiceClient
	join         drydockv1connect.JoinServiceClient
}

func newStoreClient(urls []string, keeper *pki.Keeper) *storeClient {
	s := &storeClient{}
	for _, url := range urls {
		client, base, err := pki.Client(url, keeper, pki.ExpectKind(pki.Controller))
		if err != nil {
			// Never another client: it would say in the clear what is meant for a controller only.
			client, base = &http.Client{Transport: failing{err}}, url
		}
		s.all = append(s.all, controller{url, drydockv1connect.NewCoordinationServiceClient(client, base), drydockv1connect.NewJoinServiceClient(client, base)})
	}
	return s
}

// answerWithin is how long one controller may take to answer before another is asked.
const answerWithin = 5 * time.Second

// rounds is how often the controllers are asked before they count as away. The first call to a controller that was started
// again can be lost on the connection to its earlier start; the next one is made on a new connection. All that is asked may
// be asked again.
const rounds = 2

// ask calls one controller after the other until one answers. Where none does the error matches owner.ErrUnknown.
func ask[Req, Res any](ctx context.Context, s *storeClient, method func(controller) func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), req *Req) (*Res, error) {
	s.mu.Lock()
	first := s.first
	s.mu.Unlock()
	var errs []error
	for i := range rounds * len(s.all) {
		n := (first + i) % len(s.all)
		if i >= len(s.all) && ctx.Err() != nil {
			break
		}
		within, cancel := context.WithTimeout(ctx, answerWithin)
		res, err := method(s.all[n])(within, connect.NewRequest(req))
		cancel()
		if err == nil {
			s.mu.Lock()
			s.first = n
			s.mu.Unlock()
			return res.Msg, nil
		}
		if i < len(s.all) || !unavailable(err) {
			errs = append(errs, fmt.Errorf("controller %s: %w", s.all[n].url, err))
		}
		if !unavailable(err) {
			return nil, errors.Join(errs...)
		}
	}
	return nil, fmt.Errorf("%w: %w", owner.ErrUnknown, errors.Join(errs...))
}

// unavailable tells whether an error leaves it open what happened, so that another controller may be asked.
func unavailable(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled, connect.CodeUnknown, connect.CodeAborted, connect.CodeInternal:
		return true
	}
	return false
}

func decode(r *drydockv1.OwnerRecord, err error) (owner.Record, error) {
	if err != nil {
		return owner.Record{}, err
	}
	if len(r.GetRecord()) == 0 {
		return owner.Record{Pod: r.GetPod()}, nil
	}
	return owner.Decode(r.Record, r.Revision)
}

// Look reads a pod's record.
func (s *storeClient) Look(ctx context.Context, pod string) owner.View {
	res, err := ask(ctx, s, func(c controller) func(context.Context, *connect.Request[drydockv1.GetOwnerRequest]) (*connect.Response[drydockv1.GetOwnerResponse], error) {
		return c.coordination.GetOwner
	}, &drydockv1.GetOwnerRequest{Pod: pod})
	record, err := decode(res.GetOwner(), err)
	if connect.CodeOf(err) == connect.CodeNotFound {
		return owner.View{Known: true, Record: owner.Record{Pod: pod}}
	}
	if err != nil {
		return owner.View{}
	}
	return owner.View{Known: true, Record: record}
}

// Begin makes a pod moving.
func (s *storeClient) Begin(ctx context.Context, m owner.Move) (owner.Record, error) {
	res, err := ask(ctx, s, func(c controller) func(context.Context, *connect.Request[drydockv1.BeginMoveRequest]) (*connect.Response[drydockv1.BeginMoveResponse], error) {
		return c.coordination.BeginMove
	}, &drydockv1.BeginMoveRequest{
		Pod: m.Pod, Migration: m.Migration, Epoch: m.Epoch, Destination: m.Destination.Host, DestinationBootId: m.Destination.BootID, PostCopy: m.PostCopy,
	})
	return decode(res.GetOwner(), err)
}

// Decide asks for a decision and returns the one that was made.
func (s *storeClient) Decide(ctx context.Context, pod, migration string, want owner.Outcome) (owner.Record, error) {
	res, err := ask(ctx, s, func(c controller) func(context.Context, *connect.Request[drydockv1.DecideRequest]) (*connect.Response[drydockv1.DecideResponse], error) {
		return c.coordination.Decide
	}, &drydockv1.DecideRequest{Pod: pod, Migration: migration, Commit: want == owner.Commit})
	return decode(res.GetOwner(), err)
}

// HandBack gives a committed pod back.
func (s *storeClient) HandBack(ctx context.Context, pod, migration string, at owner.Place) (owner.Record, error) {
	res, err := ask(ctx, s, func(c controller) func(context.Context, *connect.Request[drydockv1.HandBackRequest]) (*connect.Response[drydockv1.HandBackResponse], error) {
		return c.coordination.HandBack
	}, &drydockv1.HandBackRequest{Pod: pod, Migration: migration, Proof: at.BootID})
	return decode(res.GetOwner(), err)
}

func (s *storeClient) tell(ctx context.Context, pod string, epoch uint64, at owner.Place, event drydockv1.OwnerEvent, reason string) (owner.Record, error) {
	res, err := ask(ctx, s, func(c controller) func(context.Context, *connect.Request[drydockv1.ReportOwnerRequest]) (*connect.Response[drydockv1.ReportOwnerResponse], error) {
		return c.coordination.ReportOwner
	}, &drydockv1.ReportOwnerRequest{Pod: pod, Epoch: epoch, BootId: at.BootID, Event: event, Reason: reason})
	return decode(res.GetOwner(), err)
}

// Settle says that the pod runs here whole.
func (s *storeClient) Settle(ctx context.Context, pod string, epoch uint64, at owner.Place) (owner.Record, error) {
	return s.tell(ctx, pod, epoch, at, drydockv1.OwnerEvent_OWNER_EVENT_SETTLED, "")
}

// ReportLost says that no task of the pod is left here.
func (s *storeClient) ReportLost(ctx context.Context, pod string, epoch uint64, at owner.Place, reason string) (owner.Record, error) {
	return s.tell(ctx, pod, epoch, at, drydockv1.OwnerEvent_OWNER_EVENT_LOST, reason)
}

// ReportStopped says that a pod that was to be stopped is.
func (s *storeClient) ReportStopped(ctx context.Context, pod string, epoch uint64, at owner.Place) (owner.Record, error) {
	return s.tell(ctx, pod, epoch, at, drydockv1.OwnerEvent_OWNER_EVENT_STOPPED, "")
}

// Finish hands a migration's report over.
func (s *storeClient) Finish(ctx context.Context, report *drydockv1.MigrationReport) error {
	_, err := ask(ctx, s, func(c controller) func(context.Context, *connect.Request[drydockv1.FinishMigrationRequest]) (*connect.Response[drydockv1.FinishMigrationResponse], error) {
		return c.coordination.FinishMigration
	}, &drydockv1.FinishMigrationRequest{Report: report})
	return err
}

func (s *storeClient) report(ctx context.Context, req *drydockv1.ReportRequest) (*drydockv1.ReportResponse, error) {
	return ask(ctx, s, func(c controller) func(context.Context, *connect.Request[drydockv1.ReportRequest]) (*connect.Response[drydockv1.ReportResponse], error) {
		return c.coordination.Report
	}, req)
}

func (s *storeClient) renew(ctx context.Context, request []byte) (certificate, ca []byte, err error) {
	res, err := ask(ctx, s, func(c controller) func(context.Context, *connect.Request[drydockv1.RenewRequest]) (*connect.Response[drydockv1.RenewResponse], error) {
		return c.join.Renew
	}, &drydockv1.RenewRequest{CertificateRequest: request})
	return res.GetCertificate(), res.GetCa(), err
}

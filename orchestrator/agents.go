package orchestrator

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/pki"
	"drydock/orchestrator/store"
)

// LeadershipHeader carries the revision of the term that an agent is asked under.
const LeadershipHeader = "Drydock-Leadership"

// agents are the connections to hosts.
type agents struct {
	keeper *pki.Keeper

	mu    sync.Mutex
	known map[string]*agent
}

type agent struct {
	drydockv1connect.AgentServiceClient
	patch   drydockv1connect.PatchServiceClient
	address string
	boot    string
	http    *http.Client
}

func newAgents(keeper *pki.Keeper) *agents {
	return &agents{keeper: keeper, known: make(map[string]*agent)}
}

// at is the agent of a host, at its address and in its present boot; only that host's certificate is accepted there. A
// connection to an earlier boot leads nowhere, but nothing says so until a call is lost on it: it is dropped.
func (a *agents) at(record *drydockv1.HostRecord) (drydockv1connect.AgentServiceClient, error) {
	return a.dial(record)
}

// patcher is what patches a host, under the same conditions.
func (a *agents) patcher(record *drydockv1.HostRecord) (drydockv1connect.PatchServiceClient, error) {
	known, err := a.dial(record)
	if err != nil {
		return nil, err
	}
	return known.patch, nil
}

func (a *agents) dial(record *drydockv1.HostRecord) (*agent, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	host, address, boot := record.GetName(), record.GetAddress(), record.GetBootId()
	if known, ok := a.known[host]; ok {
		if known.address == address && known.boot == boot {
			return known, nil
		}
		known.http.CloseIdleConnections()
	}
	client, base, err := pki.Client(address, a.keeper, pki.ExpectHost(host))
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", host, err)
	}
	led := connect.WithInterceptors(leadershipInterceptor{}, pki.AskAgain())
	a.known[host] = &agent{
		AgentServiceClient: drydockv1connect.NewAgentServiceClient(client, base, led),
		patch:              drydockv1connect.NewPatchServiceClient(client, base, led), address: address, boot: boot, http: client,
	}
	return a.known[host], nil
}

func (a *agents) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, agent := range a.known {
		agent.http.CloseIdleConnections()
	}
}

type termKey struct{}

// withTerm marks what is done in ctx as done under that term, also if another one has begun since: then agents refuse it, and
// nothing is written.
func withTerm(ctx context.Context, term *store.Term) context.Context {
	return store.WithGuard(context.WithValue(ctx, termKey{}, term.Revision()), term)
}

type leadershipInterceptor struct{}

func (leadershipInterceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		setLeadership(ctx, request.Header())
		return next(ctx, request)
	}
}

func (leadershipInterceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		setLeadership(ctx, conn.RequestHeader())
		return conn
	}
}

func (leadershipInterceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func setLeadership(ctx context.Context, header http.Header) {
	if revision, ok := ctx.Value(termKey{}).(int64); ok {
		header.Set(LeadershipHeader, strconv.FormatInt(revision, 10))
	}
}

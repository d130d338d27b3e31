package rollout

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/migrate/owner"
	"drydock/orchestrator/plan"
	"drydock/orchestrator/pool"
)

// Controller is what rollouts ask of the controller that they are a part of, whether it leads or not.
type Controller interface {
	// Lead is the present term, for which it waits a moment. Its error is for whoever asked.
	Lead(ctx context.Context) (Term, error)
	// Lock keeps others from what is done under a name.
	Lock(name string) (unlock func())
	// Requester is who asks.
	Requester(ctx context.Context) string
	// MovesOf are the migrations that somebody has asked for, the oldest first. One that has not ended has no outcome.
	MovesOf(ctx context.Context, by string) ([]*drydockv1.MigrationReport, error)
}

// Pools are those in force.
type Pools interface {
	// All are the pools by name; they are not to be changed.
	All() map[string]*pool.Pool
	// Get is a pool with the file that it was read from, or an error whose code is NotFound.
	Get(name string) (p *pool.Pool, file string, text []byte, err error)
}

// Term is one time of leadership, and all that a rollout does to hosts and pods: only who leads may do it.
type Term interface {
	// Context ends with the term. What is done in it is written, and heard by hosts, only while the term holds.
	Context() context.Context
	// Go starts work that the end of the term waits for, and says whether it still could.
	Go(work func()) bool
	Hosts
	Pods
	Planner
	Audit
}

// Host is a host as the controller sees it at the moment.
type Host struct {
	// Record is to be changed by Hosts.ChangeHost only.
	Record  *drydockv1.HostRecord
	Labels  map[string]string
	Summary *drydockv1.StatusSummary
	// Answers: it can be asked to do something. Dead: it is certain that its boot is over. Cordoned: it answers, and is to be given
	// no pods.
	Answers, Dead, Cordoned bool
}

// Hosts are all that have joined. A host that is not known is an error whose code is NotFound.
type Hosts interface {
	Host(ctx context.Context, name string) (Host, error)
	// Hosts are all, by name.
	Hosts(ctx context.Context) (map[string]Host, error)
	// ChangeHost changes a host's record, and calls change again where somebody else was faster.
	ChangeHost(ctx context.Context, name string, change func(*drydockv1.HostRecord) error) error
	// Patcher is who patches a host, in the boot that its record has.
	Patcher(h Host) (drydockv1connect.PatchServiceClient, error)
	// ListHosts and ListPods are what gates are asked about: all, as operators see them.
	ListHosts(ctx context.Context) ([]*drydockv1.Host, error)
	ListPods(ctx context.Context) ([]*drydockv1.Pod, error)
}

// Pods are all that are on record. A pod that was removed is an error whose code is NotFound; a refusal carries its reasons.
type Pods interface {
	Pod(ctx context.Context, name string) (*drydockv1.PodRecord, error)
	// OwnerOf is who runs a pod; the zero record where nobody ever did.
	OwnerOf(ctx context.Context, name string) (owner.Record, error)
	// PodsOn are the names of those that a host runs, or is to run.
	PodsOn(ctx context.Context, host string) ([]string, error)
	// StartPod and StopPod do what operators do with the commands of these names. Both may be called again.
	StartPod(ctx context.Context, name string) error
	StopPod(ctx context.Context, name string, grace *durationpb.Duration) error
	// StartPodOn starts a stopped pod on another host than its own; what it wrote is not there.
	StartPodOn(ctx context.Context, name string, place owner.Place) error
	// Move migrates a pod for somebody, on record with the reason why, and waits for the report. What the hosts say in advance
	// against a move is in the report; what the controller says is the error.
	Move(ctx context.Context, m *drydockv1.MigratePodRequest, by, why string, tell Tell) (*drydockv1.MigrationReport, error)
	// Follow waits for the end of a migration that somebody has begun.
	Follow(ctx context.Context, migration string, tell Tell) error
}

// Tell hears of a migration's progress.
type Tell = func(*drydockv1.MigrationProgress) error

// Planner makes plans.
type Planner interface {
	// Plan asks the hosts of a pool what they lack and whether their pods can be moved, and touches nothing. What is in the way is in
	// the plan.
	Plan(ctx context.Context, p *pool.Pool) (*drydockv1.PoolPlan, error)
	// Survey looks at a pool in the middle of a rollout.
	Survey(ctx context.Context, p *pool.Pool, known Known) (Survey, error)
}

// Known is what a rollout has found out about its hosts, and what a survey is to believe.
type Known struct {
	// By is whose cordons do not count.
	By string
	// Patches are what hosts are still to be given. Away is why others take no part.
	Patches map[string]*drydockv1.Patch
	Away    map[string]*drydockv1.Refusal
}

// Survey is a pool as it was at one moment.
type Survey interface {
	// Input is what a plan can be made from, or compared with.
	Input(ctx context.Context) (plan.Input, error)
	// Plan makes another plan for the hosts that are left, after dry runs of what is to move.
	Plan(ctx context.Context) (*drydockv1.PoolPlan, error)
	// Away is why a host takes no part, also where Known has said so; nil where it does. Cordoned: somebody keeps it from pods.
	Away(host string) (why *drydockv1.Refusal, cordoned bool)
	// Candidates are the hosts of the pool that a pod may go to, the one with the most free memory first, and why the others are
	// not among them.
	Candidates(spec *drydockv1.PodSpec, except []string) (hosts []string, reasons []*drydockv1.Refusal)
}

// Audit is the record of what is done. Each entry is of an object, as its kind and name.
type Audit interface {
	// Record enters what has been done, and what came of it; nil: all went well.
	Record(ctx context.Context, verb, object, reason string, err error)
	// Begin enters that something is about to be done. What cannot be recorded must not be done.
	Begin(ctx context.Context, verb, object, reason string) (*drydockv1.Event, error)
	// Finish enters what became of it: one of the outcomes of package audit.
	Finish(ctx context.Context, event *drydockv1.Event, outcome, detail string)
}

// sleep waits, and says whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

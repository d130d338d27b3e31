package rollout

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/config"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

// OwnerPrefix is what the owners of rollouts' cordons begin with; the rollout's id follows.
const OwnerPrefix = "rollout/"

// Config of Rollouts.
type Config struct {
	Store      *store.Store
	Controller Controller
	Pools      Pools
	Log        *slog.Logger
	Now        func() time.Time
	// Prefix is where all lies in the store.
	Prefix  string
	Timings config.Timings
	// Fault is called at Points, and where a host was just told to reboot; it ends what is being done where it returns an error.
	Fault func(point string) error
}

// Rollouts are those of one controller.
type Rollouts struct {
	Config
	mu sync.Mutex
	// executions are the rollouts that are worked on, by id.
	executions map[string]*execution
}

// New makes Rollouts; Run carries them out.
func New(cfg Config) *Rollouts {
	return &Rollouts{Config: cfg, executions: make(map[string]*execution)}
}

// Run carries on with rollouts, also those of a controller that died, and starts those whose time has come, for as long as the term
// lasts.
func (s *Rollouts) Run(term Term) {
	ctx := term.Context()
	for {
		if err := s.carryOutAll(term); err != nil && ctx.Err() == nil {
			s.Log.Error("rollouts", "error", err)
		}
		if err := s.schedule(term); err != nil && ctx.Err() == nil {
			s.Log.Error("schedule of rollouts", "error", err)
		}
		if !sleep(ctx, s.Timings.ReconcileInterval) {
			return
		}
	}
}

func (s *Rollouts) execution(id string) *execution {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.executions[id]
}

// MayTouch refuses what somebody else wants to do with a host that a rollout has cordoned, unless the rollout has ended.
func (s *Rollouts) MayTouch(ctx context.Context, what string, cordon *drydockv1.Cordon) error {
	head, err := s.holder(ctx, cordon)
	if err != nil || head == nil || over(head.GetState()) {
		return err
	}
	id := head.GetId()
	return refusal.New(what, refusal.Because("rollout "+id+" patches it", "wait until `drydock rollout show "+id+"` says that it has ended, or run `drydock rollout abort "+id+"`"))
}

// HasLeft says whether a cordon was left by a rollout of a pool that has ended.
func (s *Rollouts) HasLeft(ctx context.Context, pool string, cordon *drydockv1.Cordon) (bool, error) {
	head, err := s.holder(ctx, cordon)
	return err == nil && head != nil && head.GetPool() == pool && over(head.GetState()), err
}

func errLeaves(id string) error {
	return fmt.Errorf("this controller stops; rollout %s goes on: see `drydock rollout watch %s`", id, id)
}

package upgrade

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

// errAsked: an operator wants the upgrade to end.
var errAsked = errors.New("an operator has asked for its end")

// over says whether an upgrade has ended; a stopped or paused one has not.
func over(state drydockv1.UpgradeState) bool { return state == finished || state == aborted }

// active says whether the leader is to carry it on.
func active(state drydockv1.UpgradeState) bool { return state == running || state == waiting }

// word is a state as operators know it.
func word(state drydockv1.UpgradeState) string {
	return strings.ToLower(strings.TrimPrefix(state.String(), "UPGRADE_STATE_"))
}

type upgradeItem = store.Item[*drydockv1.Upgrade]

func (s *Services) upgrade(ctx context.Context, id string) (upgradeItem, error) {
	item, err := store.Get[drydockv1.Upgrade](ctx, s.Store, s.upgradeKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return upgradeItem{}, refusal.NotFound("upgrade", id, "drydock upgrade ls")
	}
	return item, err
}

// whole is an upgrade with what is done at this moment.
func (s *Services) whole(ctx context.Context, id string) (*drydockv1.Upgrade, error) {
	item, err := s.upgrade(ctx, id)
	if err != nil {
		return nil, err
	}
	if x := s.execution(id); x != nil {
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, p := range item.Value.GetPods() {
			p.Activity = x.live[p.GetPod()]
		}
	}
	return item.Value, nil
}

func (x *execution) head(ctx context.Context) (*drydockv1.Upgrade, error) {
	item, err := x.upgrade(ctx, x.id)
	return item.Value, err
}

func (x *execution) change(ctx context.Context, change func(*drydockv1.Upgrade) error) (*drydockv1.Upgrade, error) {
	different := false
	item, err := store.Update(ctx, x.Store, x.upgradeKey(x.id), func(item upgradeItem) error {
		before := proto.CloneOf(item.Value)
		if err := change(item.Value); err != nil {
			return err
		}
		if different = !proto.Equal(before, item.Value); !different {
			return store.ErrUnchanged
		}
		return nil
	})
	if different {
		x.changedNow()
	}
	return item.Value, err
}

func (x *execution) changeOne(ctx context.Context, pod string, change func(*drydockv1.UpgradePod)) error {
	_, err := x.change(ctx, func(u *drydockv1.Upgrade) error {
		change(podOf(u, pod))
		return nil
	})
	return err
}

func podOf(u *drydockv1.Upgrade, name string) *drydockv1.UpgradePod {
	i := slices.IndexFunc(u.GetPods(), func(p *drydockv1.UpgradePod) bool { return p.GetPod() == name })
	if i < 0 {
		return nil
	}
	return u.GetPods()[i]
}

// pause waits until what a step waits for is looked at again; it says where an operator wants something else.
func (x *execution) pause(ctx context.Context, p *drydockv1.UpgradePod, why string) error {
	x.show(p.GetPod(), why)
	u, err := x.head(ctx)
	if err != nil {
		return err
	}
	if u.GetAsked() == askAbort {
		return errAsked
	}
	sleep(ctx, x.LookEvery)
	return ctx.Err()
}

// show tells watchers what a pod waits for; no text: nothing.
func (x *execution) show(pod, text string) {
	x.mu.Lock()
	same := x.live[pod] == text
	x.live[pod] = text
	x.mu.Unlock()
	if !same {
		x.changedNow()
	}
}

func (x *execution) changedNow() {
	x.mu.Lock()
	defer x.mu.Unlock()
	close(x.changed)
	x.changed = make(chan struct{})
}

func (x *execution) changes() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.changed
}

func (x *execution) fault(point string) error {
	if x.Fault == nil {
		return nil
	}
	return x.Fault(point)
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

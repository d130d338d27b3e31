package upgrade

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

// What operators ask of an upgrade.
const (
	askPause = "pause"
	askAbort = "abort"
)

// order changes an upgrade because an operator says so.
func (s *Services) order(ctx context.Context, id string, change func(*drydockv1.Upgrade) error) (*drydockv1.Upgrade, error) {
	if _, err := s.upgrade(ctx, id); err != nil {
		return nil, err
	}
	_, err := store.Update(ctx, s.Store, s.upgradeKey(id), func(item upgradeItem) error {
		before := proto.CloneOf(item.Value)
		if err := change(item.Value); err != nil {
			return err
		}
		if proto.Equal(before, item.Value) {
			return store.ErrUnchanged
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if x := s.execution(id); x != nil {
		x.changedNow()
	}
	return s.whole(ctx, id)
}

// pauseUpgrade lets what has begun come to its end, and begins nothing more.
func (s *Services) pauseUpgrade(ctx context.Context, id, by string) (*drydockv1.Upgrade, error) {
	return s.order(ctx, id, func(u *drydockv1.Upgrade) error {
		if !active(u.GetState()) {
			return refusal.New("pause upgrade "+id, refusal.Because("it is "+word(u.GetState()), "see `drydock upgrade show "+id+"`"))
		}
		if u.GetAsked() == "" {
			u.Asked, u.Reason = askPause, "is being paused by "+by
		}
		return nil
	})
}

// abortUpgrade takes back what is half done, and ends the upgrade.
func (s *Services) abortUpgrade(ctx context.Context, id, by string) (*drydockv1.Upgrade, error) {
	return s.order(ctx, id, func(u *drydockv1.Upgrade) error {
		if over(u.GetState()) {
			return refusal.New("abort upgrade "+id, refusal.Because("it is "+word(u.GetState()), "see `drydock upgrade show "+id+"`"))
		}
		u.Asked, u.Reason, u.State = askAbort, "is being aborted by "+by, running
		return nil
	})
}

// resumeUpgrade goes on with one that is paused or has stopped. Pods that failed are tried again.
func (s *Services) resumeUpgrade(ctx context.Context, id string) (*drydockv1.Upgrade, error) {
	return s.order(ctx, id, func(u *drydockv1.Upgrade) error {
		if u.GetState() != paused && u.GetState() != stopped && u.GetAsked() != askPause {
			return refusal.New("resume upgrade "+id, refusal.Because("it is "+word(u.GetState()), "see `drydock upgrade show "+id+"`"))
		}
		u.State, u.Reason, u.Asked, u.Problems = running, "", "", nil
		for _, p := range u.GetPods() {
			if p.GetState() == podFailed {
				p.State, p.Step, p.Problems = podPending, "", nil
			}
		}
		return nil
	})
}

// listUpgrades are those of a service, or all, the newest first.
func (s *Services) listUpgrades(ctx context.Context, service string, limit int) ([]*drydockv1.Upgrade, error) {
	items, err := store.List[drydockv1.Upgrade](ctx, s.Store, s.Prefix+"upgrades/")
	if err != nil {
		return nil, err
	}
	var found []*drydockv1.Upgrade
	for _, item := range slices.Backward(items) {
		if limit > 0 && len(found) == limit {
			break
		}
		if service == "" || item.Value.GetService() == service {
			found = append(found, item.Value)
		}
	}
	return found, nil
}

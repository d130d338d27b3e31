package upgrade

import (
	"context"
	"fmt"
	"slices"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
	"drydock/shim/record"
)

// The kinds of schedules, as records name them.
const (
	flagged      = "flag"
	gradual      = "gradual"
	serversFirst = "servers-first"
	clientsFirst = "clients-first"
	onePerGroup  = "one-per-group"
)

const (
	podPending  = drydockv1.UpgradePodState_UPGRADE_POD_STATE_PENDING
	podRunning  = drydockv1.UpgradePodState_UPGRADE_POD_STATE_RUNNING
	podUpgraded = drydockv1.UpgradePodState_UPGRADE_POD_STATE_UPGRADED
	podUndoing  = drydockv1.UpgradePodState_UPGRADE_POD_STATE_UNDOING
	podFailed   = drydockv1.UpgradePodState_UPGRADE_POD_STATE_FAILED
	podSkipped  = drydockv1.UpgradePodState_UPGRADE_POD_STATE_SKIPPED
)

// world is what schedules look at beside the upgrade itself.
type world struct {
	now   time.Time
	flags []string
	// behind are clients that do not speak the version yet.
	behind []string
	// unwell are pods of the service that were upgraded and do not run, or are not healthy.
	unwell []string
}

// turn is what a schedule allows now: pods that may begin, or what it waits for.
type turn struct {
	begin  []string
	reason string
	until  time.Time
}

// next is which pods may begin. It looks only at what it is given, so that the transaction that lets them begin can ask it again.
func next(u *drydockv1.Upgrade, w world) turn {
	s := u.GetSchedule()
	switch {
	case s.GetKind() == flagged && !slices.Contains(w.flags, s.GetFlag()):
		return turn{reason: fmt.Sprintf("the flag %s is not set: `drydock service flag %s %s`", s.GetFlag(), u.GetService(), s.GetFlag())}
	case s.GetKind() == clientsFirst && len(w.behind) > 0:
		return turn{reason: fmt.Sprintf("clients first: pod %s does not speak %s yet", w.behind[0], u.GetTo())}
	case len(w.unwell) > 0:
		return turn{reason: fmt.Sprintf("pod %s was upgraded, and is not healthy", w.unwell[0])}
	}
	room := max(int(s.GetAtOnce()), 1)
	groups := make(map[string]bool)
	started := 0
	var free time.Time
	for _, p := range u.GetPods() {
		if p.GetState() != podPending && p.GetState() != podSkipped {
			started++
		}
		until := busyUntil(p, s)
		if !until.After(w.now) {
			continue
		}
		room--
		groups[p.GetGroup()] = true
		if p.GetState() == podUpgraded && (free.IsZero() || until.Before(free)) {
			free = until
		}
	}
	if s.GetKind() == gradual {
		room = min(room, stageEnd(u, w.now)-started)
	}
	t := turn{reason: "pods are being upgraded"}
	if !free.IsZero() {
		t.reason, t.until = "it waits after the last pod, as the record says (soak)", free
	}
	for _, p := range u.GetPods() {
		if room <= len(t.begin) {
			break
		}
		if p.GetState() != podPending || s.GetKind() == onePerGroup && groups[p.GetGroup()] {
			continue
		}
		groups[p.GetGroup()] = true
		t.begin = append(t.begin, p.GetPod())
	}
	return t
}

// forever is later than any moment that is compared with it.
var forever = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// busyUntil is until when a pod counts as being upgraded: to the end of its soak.
func busyUntil(p *drydockv1.UpgradePod, s *drydockv1.UpgradeSchedule) time.Time {
	switch p.GetState() {
	case podRunning, podUndoing:
		return forever
	case podUpgraded:
		return p.GetEnded().AsTime().Add(s.GetSoak().AsDuration())
	}
	return time.Time{}
}

// stageEnd is how many pods a gradual upgrade may have begun by now: whole stages, the next one when all before have soaked.
func stageEnd(u *drydockv1.Upgrade, now time.Time) int {
	all := len(u.GetPods())
	stage := max((all*int(u.GetSchedule().GetPercent())+99)/100, 1)
	done := 0
	for _, p := range u.GetPods() {
		if p.GetState() == podSkipped || p.GetState() == podUpgraded && !busyUntil(p, u.GetSchedule()).After(now) {
			done++
		}
	}
	return (done/stage + 1) * stage
}

// scheduleOf is a record's schedule as an upgrade keeps it.
func scheduleOf(part record.Part[record.Schedule]) *drydockv1.UpgradeSchedule {
	if part.None {
		return &drydockv1.UpgradeSchedule{Kind: "rolling"}
	}
	s := part.Value
	return &drydockv1.UpgradeSchedule{
		Kind: s.Kind, AtOnce: int32(s.AtOnce), Soak: durationpbOf(s.Soak), Flag: s.Flag, Percent: int32(s.Percent), Label: s.Label,
	}
}

// see looks at what an upgrade's schedule depends on.
func (s *Services) see(ctx context.Context, u *drydockv1.Upgrade) (world, error) {
	item, err := s.service(ctx, u.GetService())
	if err != nil {
		return world{}, err
	}
	versions, err := versionsOf(item.Value)
	if err != nil {
		return world{}, err
	}
	pods, err := s.Controller.ListPods(ctx)
	if err != nil {
		return world{}, err
	}
	w := world{now: s.Now(), flags: item.Value.GetFlags()}
	to := slices.Index(versions, u.GetTo())
	for _, use := range usesOf(u.GetService(), pods) {
		name := use.pod.GetSpec().GetName()
		at := slices.Index(versions, use.version)
		upwards := slices.ContainsFunc(u.GetPods(), func(p *drydockv1.UpgradePod) bool { return slices.Index(versions, p.GetFrom()) < to })
		switch {
		case use.client && (upwards && at < to || !upwards && at > to) && !hasEnded(use.pod):
			w.behind = append(w.behind, name)
		case !use.client && upgraded(u, name) && !well(use.pod):
			w.unwell = append(w.unwell, name)
		}
	}
	return w, nil
}

func upgraded(u *drydockv1.Upgrade, pod string) bool {
	return slices.ContainsFunc(u.GetPods(), func(p *drydockv1.UpgradePod) bool { return p.GetPod() == pod && p.GetState() == podUpgraded })
}

// well says whether a pod runs, as far as is known. One that moves is.
func well(pod *drydockv1.Pod) bool {
	switch pod.GetPhase() {
	case drydockv1.PodPhase_POD_PHASE_RUNNING, drydockv1.PodPhase_POD_PHASE_MOVING:
	default:
		return false
	}
	return !slices.ContainsFunc(pod.GetContainers(), func(c *drydockv1.ContainerStatus) bool { return c.Healthy != nil && !c.GetHealthy() })
}

// tooEarly keeps a client from speaking a version that not every server has yet, where the record says servers first.
func (s *Services) tooEarly(ctx context.Context, stored *drydockv1.ServiceRecord, versions []string, u use) ([]*drydockv1.Refusal, error) {
	at := slices.Index(versions, u.version)
	if !u.client || at == 0 {
		return nil, nil
	}
	r, err := s.load(ctx, stored)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.Pairs[at-1].Schedule.Value.Kind != serversFirst {
		return nil, nil
	}
	pods, err := s.Controller.ListPods(ctx)
	if err != nil {
		return nil, err
	}
	var reasons []*drydockv1.Refusal
	for _, server := range usesOf(u.service, pods) {
		if !server.client && slices.Index(versions, server.version) < at {
			reasons = append(reasons, refusal.Because(fmt.Sprintf("servers first: pod %s still serves %s, and the new pod speaks %s", server.pod.GetSpec().GetName(), server.version, u.version),
				"upgrade the servers: `drydock service upgrade "+u.service+" --to "+u.version+"`"))
		}
	}
	return reasons, nil
}

package upgrade

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
	"drydock/pods/manifest"
	"drydock/shim/record"
)

const (
	running  = drydockv1.UpgradeState_UPGRADE_STATE_RUNNING
	waiting  = drydockv1.UpgradeState_UPGRADE_STATE_WAITING
	paused   = drydockv1.UpgradeState_UPGRADE_STATE_PAUSED
	stopped  = drydockv1.UpgradeState_UPGRADE_STATE_STOPPED
	finished = drydockv1.UpgradeState_UPGRADE_STATE_FINISHED
	aborted  = drydockv1.UpgradeState_UPGRADE_STATE_ABORTED
)

// newID makes an id that is never used again; ids sort by the time that they were made.
func newID(now time.Time) string {
	return "u" + strconv.FormatInt(now.UnixMilli(), 36) + "-" + strings.ToLower(rand.Text()[:6])
}

func durationpbOf(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// start writes an upgrade down, where nothing is in its way. It is nil where every pod has the version.
func (s *Services) start(ctx context.Context, m *drydockv1.StartUpgradeRequest, by string) (*drydockv1.Upgrade, error) {
	defer s.Controller.Lock("services")()
	item, err := s.service(ctx, m.GetService())
	if err != nil {
		return nil, err
	}
	r, err := s.load(ctx, item.Value)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	pods, err := s.Controller.ListPods(ctx)
	if err != nil {
		return nil, err
	}
	p := planning{Services: s, ask: m, stored: item.Value, record: r, pods: pods, what: fmt.Sprintf("upgrade service %s to %s", m.GetService(), m.GetTo())}
	u, err := p.plan(ctx)
	if err != nil || u == nil {
		return nil, err
	}
	u.Id, u.StartedBy, u.Started = newID(s.Now()), by, timestamppb.New(s.Now())
	item.Value.Upgrade = u.GetId()
	_, err = s.Store.Txn().If(store.Unchanged(item.Key, item.Revision), store.Unchanged(s.upgradeKey(u.GetId()), 0)).
		Put(item.Key, item.Value).Put(s.upgradeKey(u.GetId()), u).Commit(ctx)
	if errors.Is(err, store.ErrConflict) {
		return nil, refusal.New(p.what, refusal.Because("the service was changed at the same moment", "try again"))
	}
	if err != nil {
		return nil, err
	}
	s.Controller.Record(ctx, "upgrade begun", u.GetId(), fmt.Sprintf("service %s to %s, by %s", u.GetService(), u.GetTo(), by), nil)
	return u, s.prune(ctx)
}

// planning collects what is in the way of an upgrade.
type planning struct {
	*Services
	ask     *drydockv1.StartUpgradeRequest
	stored  *drydockv1.ServiceRecord
	record  *record.Record
	pods    []*drydockv1.Pod
	what    string
	reasons []*drydockv1.Refusal
}

func (p *planning) add(reason, remedy string) {
	p.reasons = append(p.reasons, refusal.Because(reason, remedy))
}

func (p *planning) plan(ctx context.Context) (*drydockv1.Upgrade, error) {
	to := p.ask.GetTo()
	if !slices.Contains(p.record.Versions, to) {
		return nil, refusal.New(p.what, refusal.Because("its record knows no version "+to, "choose one of "+strings.Join(p.record.Versions, ", ")+", or apply a newer record"))
	}
	if id := p.stored.GetUpgrade(); id != "" {
		return nil, refusal.New(p.what, refusal.Because("upgrade "+id+" of this service has not ended",
			"see `drydock upgrade show "+id+"`; go on with it by `drydock upgrade resume "+id+"`, or end it by `drydock upgrade abort "+id+"`"))
	}
	chosen := p.choose()
	if err := refusal.New(p.what, p.reasons...); err != nil || len(chosen) == 0 {
		return nil, err
	}
	u := &drydockv1.Upgrade{Service: p.ask.GetService(), To: to, State: running}
	p.pairOf(u, chosen)
	if err := refusal.New(p.what, p.reasons...); err != nil {
		return nil, err
	}
	f, err := p.forShims(ctx, p.stored)
	if err != nil {
		return nil, err
	}
	if why := f.tooLarge(); why != nil && slices.ContainsFunc(p.pods, func(pod *drydockv1.Pod) bool { return f.concerns(pod) && hasPorts(pod) }) {
		p.add(why.GetReason(), why.GetRemedy())
	}
	image, digest, err := p.image(ctx, chosen[0])
	if err := errors.Join(err, refusal.New(p.what, p.reasons...)); err != nil {
		return nil, err
	}
	u.Image, u.ImageDigest = image, digest
	for _, pod := range chosen {
		labels := pod.GetSpec().GetLabels()
		u.Pods = append(u.Pods, &drydockv1.UpgradePod{
			Pod: pod.GetSpec().GetName(), From: labels[manifest.LabelVersion], Group: labels[u.GetSchedule().GetLabel()], State: podPending,
		})
	}
	return u, nil
}

// choose are the pods that have another version: all, or those that were named.
func (p *planning) choose() []*drydockv1.Pod {
	named := make(map[string]bool)
	for _, name := range p.ask.GetPods() {
		named[name] = true
	}
	var chosen []*drydockv1.Pod
	for _, u := range usesOf(p.ask.GetService(), p.pods) {
		name := u.pod.GetSpec().GetName()
		if u.client || len(p.ask.GetPods()) > 0 && !named[name] {
			continue
		}
		delete(named, name)
		if u.version == p.ask.GetTo() {
			continue
		}
		if u.pod.GetPhase() != drydockv1.PodPhase_POD_PHASE_RUNNING && u.pod.GetPhase() != drydockv1.PodPhase_POD_PHASE_MOVING {
			p.add("pod "+name+" does not run", "start it: `drydock pod start "+name+"`, remove it, or name the others with --pod")
		}
		chosen = append(chosen, u.pod)
	}
	for name := range named {
		p.add("pod "+name+" is none of service "+p.ask.GetService(), "see `drydock service show "+p.ask.GetService()+"`")
	}
	slices.SortFunc(chosen, func(a, b *drydockv1.Pod) int { return strings.Compare(a.GetSpec().GetName(), b.GetSpec().GetName()) })
	return chosen
}

// pairOf checks that all pods go between the same two neighbours, in a direction that the record allows.
func (p *planning) pairOf(u *drydockv1.Upgrade, chosen []*drydockv1.Pod) {
	from := chosen[0].GetSpec().GetLabels()[manifest.LabelVersion]
	for _, pod := range chosen[1:] {
		if other := pod.GetSpec().GetLabels()[manifest.LabelVersion]; other != from {
			p.add(fmt.Sprintf("pod %s has %s, and pod %s %s", chosen[0].GetSpec().GetName(), from, pod.GetSpec().GetName(), other), "name those of one version with --pod")
			return
		}
	}
	pair, down, ok := pairBetween(p.record, from, u.GetTo())
	if !ok {
		i, j := slices.Index(p.record.Versions, from), slices.Index(p.record.Versions, u.GetTo())
		step := 1
		if j < i {
			step = -1
		}
		p.add(fmt.Sprintf("pod %s has %s, which is no neighbour of %s", chosen[0].GetSpec().GetName(), from, u.GetTo()), "upgrade to "+p.record.Versions[i+step]+" first")
		return
	}
	if down && !pair.Transform.None && len(pair.Transform.Value.Back) == 0 {
		p.add(fmt.Sprintf("the record has no way back from %s to %s for what pods have stored", from, u.GetTo()), "write transform.back into the record")
	}
	if pair.Schedule.None && len(p.ask.GetPods()) == 0 {
		p.add(fmt.Sprintf("the record has no schedule between %s and %s", from, u.GetTo()), "name the pods with --pod, or write a schedule into the record")
	}
	u.Schedule = scheduleOf(pair.Schedule)
	if down { // what goes first on the way up goes last on the way down
		switch u.Schedule.Kind {
		case serversFirst:
			u.Schedule.Kind = clientsFirst
		case clientsFirst:
			u.Schedule.Kind = serversFirst
		}
	}
	if label := u.GetSchedule().GetLabel(); u.GetSchedule().GetKind() == onePerGroup {
		for _, pod := range chosen {
			if pod.GetSpec().GetLabels()[label] == "" {
				p.add("pod "+pod.GetSpec().GetName()+" has no label "+label+", and the schedule is one per group", "run it with --label "+label+"=GROUP, or change the schedule")
			}
		}
	}
}

// pairBetween is what the record says about two neighbours; down: from is the newer one.
func pairBetween(r *record.Record, from, to string) (pair record.Pair, down, ok bool) {
	for _, pair := range r.Pairs {
		switch {
		case pair.Between[0] == from && pair.Between[1] == to:
			return pair, false, true
		case pair.Between[1] == from && pair.Between[0] == to:
			return pair, true, true
		}
	}
	return record.Pair{}, false, false
}

// image is what pods of the version are run from.
func (p *planning) image(ctx context.Context, like *drydockv1.Pod) (reference, digest string, err error) {
	reference = p.ask.GetImage()
	if reference == "" {
		reference = p.stored.GetImages()[p.ask.GetTo()]
	}
	for _, u := range usesOf(p.ask.GetService(), p.pods) {
		if reference == "" && !u.client && u.version == p.ask.GetTo() {
			reference = serving(u.pod.GetSpec()).GetImage()
		}
	}
	if reference == "" {
		p.add("it is not known which image version "+p.ask.GetTo()+" is run from", "name it with --image")
		return "", "", nil
	}
	spec := proto.CloneOf(like.GetSpec())
	c := serving(spec)
	c.Image, c.ImageDigest = reference, ""
	spec.Containers = []*drydockv1.Container{c}
	if err := p.Controller.Resolve(ctx, spec); err != nil {
		return "", "", err
	}
	return reference, c.GetImageDigest(), nil
}

// keepUpgrades is how many are kept; those that have not ended are kept in any case.
const keepUpgrades = 200

func (s *Services) prune(ctx context.Context) error {
	items, err := store.List[drydockv1.Upgrade](ctx, s.Store, s.Prefix+"upgrades/")
	if err != nil {
		return err
	}
	for _, item := range items[:max(len(items)-keepUpgrades, 0)] {
		if !over(item.Value.GetState()) {
			continue
		}
		if _, err := s.Store.Txn().Delete(item.Key).Commit(ctx); err != nil {
			return err
		}
	}
	return nil
}

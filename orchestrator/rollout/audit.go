package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/audit"
)

// What a rollout does is recorded by the controller that does it: object is what is changed, as a kind and a name, and why begins
// with the rollout.

// recorded does something with an entry in the record: that it begins, and what became of it. What cannot be recorded is not done.
// Where this controller goes away meanwhile it stays begun, and the next one does it again.
func (x *execution) recorded(ctx context.Context, verb, object, why string, do func() error) error {
	event, err := x.Begin(ctx, verb, object, x.why(why))
	if err != nil {
		return err
	}
	err = do()
	if ctx.Err() == nil {
		outcome, detail := outcomeOf(err)
		x.Finish(ctx, event, outcome, detail)
	}
	return err
}

// why is a reason with the rollout before it.
func (x *execution) why(reason string) string {
	if reason == "" {
		return x.by()
	}
	return x.by() + ": " + reason
}

// outcomeOf is what an error within a rollout makes of an event.
func outcomeOf(err error) (outcome, detail string) {
	var failed *setback
	var left *skipped
	switch {
	case errors.As(err, &failed):
		return audit.Failed, failed.Error()
	case errors.As(err, &left):
		return audit.Refused, left.Error()
	case errors.Is(err, errAsked):
		return audit.Left, errAsked.Error()
	}
	return audit.OutcomeOf(err)
}

// whyOn says of each of a step's hosts why it is being done there.
func (x *execution) whyOn(ctx context.Context, head *drydockv1.Rollout, s step) (func(*drydockv1.RolloutHost) string, error) {
	round, err := x.round(ctx, head)
	if err != nil {
		return nil, err
	}
	planned := map[string]string{}
	for _, h := range round.GetHosts() {
		planned[h.GetHost()] = h.GetWhy()
	}
	return func(h *drydockv1.RolloutHost) string {
		switch {
		case s.name == stepDownload, s.name == stepPatch:
			return contentsOf(h.GetPatch())
		case s.name == stepReboot && len(h.GetPatch().GetRebootReasons()) > 0:
			return strings.Join(h.GetPatch().GetRebootReasons(), "; ")
		case planned[h.GetHost()] != "":
			return fmt.Sprintf("round %d, %s", head.GetRound()+1, planned[h.GetHost()])
		}
		return fmt.Sprintf("round %d", head.GetRound()+1)
	}, nil
}

// mostNamed is how many packages of a patch an event names.
const mostNamed = 20

// contentsOf names the packages of a patch, and why it has each.
func contentsOf(p *drydockv1.Patch) string {
	var names []string
	for i, pkg := range p.GetPackages() {
		if i == mostNamed {
			names = append(names, fmt.Sprintf("and %d more", len(p.GetPackages())-mostNamed))
			break
		}
		name := pkg.GetName() + "=" + pkg.GetTo()
		if pkg.GetReason() != "" {
			name += " (" + pkg.GetReason() + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

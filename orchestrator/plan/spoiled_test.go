package plan

import (
	"strings"
	"testing"
	"time"
)

// A plan that is right is spoiled in one way each, and both that replay plans must see it.
func TestASpoiledPlanIsFoundOut(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(in *Input, p *Plan)
		want  string
	}{
		"a host too full":      {func(in *Input, p *Plan) { in.Hosts[2].Memory = 1 }, "no room"},
		"a host left out":      {func(in *Input, p *Plan) { p.Rounds = p.Rounds[:2] }, "never patched"},
		"a host twice":         {func(in *Input, p *Plan) { p.Rounds = append(p.Rounds, p.Rounds[0]) }, "not to be patched"},
		"a pod left behind":    {func(in *Input, p *Plan) { p.Rounds[1].Drain = nil }, "while it is patched"},
		"a pod from elsewhere": {func(in *Input, p *Plan) { p.Rounds[1].Drain[0][0].From = "h1" }, "is on h2"},
		"a pod twice at once":  {func(in *Input, p *Plan) { d := p.Rounds[1].Drain; d[0] = append(d[0], d[0][0]) }, "twice"},
		"hosts that cannot":    {func(in *Input, p *Plan) { in.Hosts[2].After.Kernel = "6.1.1" }, "cannot hand over"},
		"what must be apart": {func(in *Input, p *Plan) {
			in.Pods[0].Apart = []Apart{{Group: "g"}}
			in.Pods[1].Apart = in.Pods[0].Apart
		}, "group g"},
		"a domain shared": {func(in *Input, p *Plan) {
			share := []Apart{{"g", true}}
			in.Pods[2].Apart, in.Pods[1].Apart = share, share
		}, "group g"},
		"too many hosts":          {func(in *Input, p *Plan) { in.Policy.Hosts = 0 }, "at once"},
		"a mode that is not":      {func(in *Input, p *Plan) { in.Policy.Modes = []Mode{Precopy} }, "mode"},
		"too long a silence":      {func(in *Input, p *Plan) { in.Policy.Budget = -time.Second }, "within"},
		"a host that is away":     {func(in *Input, p *Plan) { in.Hosts[2].Away = &Refusal{} }, "not to be patched"},
		"another patch":           {func(in *Input, p *Plan) { p.Rounds[0].Hosts[0].Patch = nil }, "another patch"},
		"no reboot":               {func(in *Input, p *Plan) { p.Rounds[0].Hosts[0].Reboot = false }, "another patch"},
		"a pod that stays away":   {func(in *Input, p *Plan) { in.Policy.Return = ReturnAlways }, "does not return"},
		"stopped without leave":   {func(in *Input, p *Plan) { p.Rounds[1].Drain[0][0].Restart = true }, "may not be stopped"},
		"nowhere":                 {func(in *Input, p *Plan) { p.Rounds[1].Drain[0][0].To = "h9" }, "h9"},
		"a round without a host ": {func(in *Input, p *Plan) { p.Rounds = append(p.Rounds, Round{}) }, "0 hosts"},
	} {
		t.Run(name, func(t *testing.T) {
			in := three(on("h1", "a", 3), on("h1", "b", 3), on("h2", "c", 3))
			p := checked(t, in)
			test.spoil(&in, p)
			if err := Verify(in, p); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Verify says %v", err)
			}
			if err := verify(in, p); err == nil {
				t.Error("the tests' own replay takes it")
			}
		})
	}
}

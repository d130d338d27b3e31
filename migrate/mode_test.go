package migrate

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/stack"
	"drydock/pods"
)

func TestAutoTakesTheSimplestModeThatMayBeUsedAndMeetsTheBudget(t *testing.T) {
	able := map[string]bool{stack.TracksWrites: true, lazyPages: true}
	lazyOnly := map[string]bool{lazyPages: true}
	all := []drydockv1.MigrationMode{stop, precopy, postcopy}
	for name, c := range map[string]struct {
		memory int64
		host   map[string]bool
		modes  []drydockv1.MigrationMode
		lazy   bool
		want   drydockv1.MigrationMode
		why    string
	}{
		"a small pod":                          {16 << 20, able, nil, true, stop, "can be sent within"},
		"a small pod where stop is not wanted": {16 << 20, able, all[1:], true, precopy, "stop may not be used"},
		"a large pod":                          {1 << 30, able, nil, true, precopy, "more than the downtime budget"},
		"a large pod, all modes named":         {1 << 30, able, all, true, precopy, "more than the downtime budget"},
		"a large pod without pre-copy":         {1 << 30, able, []drydockv1.MigrationMode{stop, postcopy}, true, postcopy, "more than the downtime budget"},
		"a large pod, stop only":               {1 << 30, able, all[:1], true, stop, "post-copy is not allowed"},
		"a kernel that tracks no writes":       {1 << 30, lazyOnly, all, true, postcopy, "more than the downtime budget"},
		"neither is possible":                  {1 << 30, nil, all, true, stop, "CRIU cannot restore lazily"},
		"the pod forbids post-copy":            {1 << 30, lazyOnly, all, false, stop, "post-copy is not allowed for this pod"},
		"nothing is left":                      {1 << 30, lazyOnly, all[1:2], true, drydockv1.MigrationMode_MIGRATION_MODE_UNSPECIFIED, "no mode is left"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &move{
				spec: &drydockv1.MigrationSpec{
					Mode: drydockv1.MigrationMode_MIGRATION_MODE_AUTO, DowntimeBudget: durationpb.New(time.Second), Modes: c.modes, AllowPostcopy: c.lazy,
				},
				rec: &pods.Record{Spec: &drydockv1.PodSpec{}}, needs: &drydockv1.PodNeeds{MemoryBytes: c.memory}, report: &drydockv1.MigrationReport{},
			}
			host := &drydockv1.HostInfo{CriuFeatures: c.host, MemoryAvailableBytes: 8 << 30}
			refused := m.choose(host, host)
			if c.want == drydockv1.MigrationMode_MIGRATION_MODE_UNSPECIFIED {
				if len(refused) != 1 || !strings.Contains(refused[0].Reason, c.why) || refused[0].Remedy == "" {
					t.Errorf("got %v", refused)
				}
				return
			}
			if len(refused) > 0 || m.mode != c.want || !strings.Contains(m.report.ModeReason, c.why) {
				t.Errorf("got %s, %q, %v", m.mode, m.report.ModeReason, refused)
			}
		})
	}
}

package status

import (
	"context"
	"strings"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func TestAHostThatHasFailedToDumpAndRestoreSaysSoEverywhere(t *testing.T) {
	for name, c := range map[string]struct {
		proof       *drydockv1.RestoreProof
		ok, problem bool
		detail      string
	}{
		"not tried yet": {nil, false, false, "not brought to its end"},
		"proven": {
			&drydockv1.RestoreProof{Tried: timestamppb.Now(), Took: durationpb.New(1230 * time.Millisecond), Stack: "a"},
			true, false, "a small pod was dumped and restored in 1.23s",
		},
		"failed": {&drydockv1.RestoreProof{Tried: timestamppb.Now(), Error: "dump it: CRIU: no"}, false, true, "dump it: CRIU: no"},
	} {
		t.Run(name, func(t *testing.T) {
			h := &Host{
				DataDir: t.TempDir(), Containerd: func(context.Context) (string, error) { return "1.7", nil },
				Proof: func() *drydockv1.RestoreProof { return c.proof },
			}
			info, err := h.Inspect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			problem := false
			for _, p := range info.Problems {
				problem = problem || p.Reason == "it cannot dump and restore a pod: dump it: CRIU: no" && strings.Contains(p.Remedy, "host doctor")
			}
			if problem != c.problem {
				t.Errorf("problems %v", info.Problems)
			}
			checks, err := h.Doctor(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			said := 0
			for _, check := range checks {
				if strings.Contains(check.Detail, "dump it") && check.Name != "dump and restore" {
					t.Errorf("said twice: %v", check)
				}
				if check.Name != "dump and restore" {
					continue
				}
				said++
				if check.Ok != c.ok || !strings.Contains(check.Detail, c.detail) || !check.Ok && check.Remedy == "" {
					t.Errorf("%v", check)
				}
			}
			if said != 1 {
				t.Errorf("said %d times", said)
			}
		})
	}
}

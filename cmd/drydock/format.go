package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "drydock/api/drydock/v1"
)

// size shows bytes, and nothing for none.
func size(bytes int64) string {
	if bytes <= 0 {
		return ""
	}
	return humanize.IBytes(uint64(bytes))
}

// duration shows three digits at most: 412 ms, 1.9 s, 2m05s, 3h10m, 4d02h.
func duration(d time.Duration) string {
	switch {
	case d == 0:
		return "0 s"
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.3g s", d.Truncate(10*time.Millisecond).Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// took shows a duration of the API, and nothing where it is not set.
func took(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	return duration(d.AsDuration())
}

// age shows how long ago t was.
func (a *app) age(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return duration(max(0, a.now().Sub(t.AsTime())).Truncate(time.Second))
}

func moment(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Local().Format(time.RFC3339)
}

// between the enumerations' names and the words that operators know.
func phaseWord(p v1.PodPhase) string        { return word(p.String(), "POD_PHASE_") }
func modeWord(m v1.MigrationMode) string    { return word(m.String(), "MIGRATION_MODE_") }
func restartWord(p v1.RestartPolicy) string { return word(p.String(), "RESTART_POLICY_") }
func lostWord(p v1.OnHostLost) string       { return word(p.String(), "ON_HOST_LOST_") }
func outcomeWord(r *v1.MigrationReport) string {
	switch {
	case r.Finished == nil && r.Outcome == v1.MigrationOutcome_MIGRATION_OUTCOME_UNSPECIFIED && !r.DryRun:
		return "running"
	case r.DryRun && r.Outcome == v1.MigrationOutcome_MIGRATION_OUTCOME_UNSPECIFIED:
		return "dry run"
	}
	return word(r.Outcome.String(), "MIGRATION_OUTCOME_")
}

func word(name, prefix string) string {
	w := strings.TrimPrefix(name, prefix)
	if w == "UNSPECIFIED" {
		return ""
	}
	return strings.ReplaceAll(strings.ToLower(w), "_", " ")
}

// plural counts things: 1 pod, 2 pods.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

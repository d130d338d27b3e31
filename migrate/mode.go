package migrate

import (
	"fmt"
	"slices"
	"time"

	drydockv1 "drydock/api/drydock/v1"
)

const (
	stop     = drydockv1.MigrationMode_MIGRATION_MODE_STOP
	precopy  = drydockv1.MigrationMode_MIGRATION_MODE_PRECOPY
	postcopy = drydockv1.MigrationMode_MIGRATION_MODE_POSTCOPY
)

// choose settles the mode, and says why.
func (m *move) choose(here, there *drydockv1.HostInfo) []*drydockv1.Refusal {
	switch m.spec.Mode {
	case stop:
		m.take(stop, "asked for")
	case precopy:
		m.take(precopy, "asked for")
		if why, remedy := m.cannotPrecopy(here, there); why != "" {
			return []*drydockv1.Refusal{{Reason: "mode precopy: " + why, Remedy: remedy}}
		}
	case postcopy:
		m.take(postcopy, "asked for")
		var reasons []*drydockv1.Refusal
		if !m.allowsPostcopy() {
			reasons = append(reasons, &drydockv1.Refusal{Reason: "mode postcopy is not allowed for this pod: if the source is lost before all pages have arrived, so is the pod", Remedy: "allow it with --allow-postcopy, or in the pod's specification"})
		}
		if rewritten := rewrites(here.GetKernel(), there.GetKernel()); rewritten != "" {
			reasons = append(reasons, &drydockv1.Refusal{Reason: "mode postcopy: " + rewritten, Remedy: "use mode stop or precopy"})
		}
		if !restoresLazily(here) || !restoresLazily(there) {
			reasons = append(reasons, &drydockv1.Refusal{Reason: "mode postcopy: CRIU cannot restore lazily on both hosts", Remedy: "use mode stop"})
		}
		return reasons
	default:
		return m.chooseBest(here, there)
	}
	return nil
}

func (m *move) take(mode drydockv1.MigrationMode, why string) {
	m.mode, m.report.Mode, m.report.ModeReason = mode, mode, why
}

// chooseBest takes, of the modes that may be used, stop where the memory can be sent within the budget, else pre-copy, else post-copy.
// Where none of these can be, it is stop that costs more than the budget, and never a pod.
func (m *move) chooseBest(here, there *drydockv1.HostInfo) []*drydockv1.Refusal {
	budget := m.budget()
	freeze := emptyFreeze + time.Duration(float64(m.needs.MemoryBytes)/memoryPerSec*float64(time.Second))
	noPrecopy, noPostcopy := m.whyNotPrecopy(here, there), m.whyNotPostcopy(here, there)
	why := fmt.Sprintf("%s of memory would take %s, more than the downtime budget of %s", size(m.needs.MemoryBytes), freeze.Round(10*time.Millisecond), budget)
	if !m.mayUse(stop) {
		why = "mode stop may not be used"
	}
	switch {
	case m.mayUse(stop) && freeze <= budget:
		m.take(stop, fmt.Sprintf("%s of memory can be sent within the downtime budget of %s", size(m.needs.MemoryBytes), budget))
	case noPrecopy == "":
		m.take(precopy, why)
	case noPostcopy == "":
		m.take(postcopy, why)
	case m.mayUse(stop):
		m.take(stop, noPostcopy)
	default:
		m.take(precopy, why)
		return []*drydockv1.Refusal{{
			Reason: fmt.Sprintf("no mode is left: %s; precopy: %s; postcopy: %s", why, noPrecopy, noPostcopy),
			Remedy: "allow another mode, in a pool with `pods.modes`",
		}}
	}
	return nil
}

// mayUse says whether auto may choose a mode.
func (m *move) mayUse(mode drydockv1.MigrationMode) bool {
	return len(m.spec.Modes) == 0 || slices.Contains(m.spec.Modes, mode)
}

func (m *move) whyNotPrecopy(here, there *drydockv1.HostInfo) string {
	if !m.mayUse(precopy) {
		return "it may not be used"
	}
	why, _ := m.cannotPrecopy(here, there)
	return why
}

func (m *move) whyNotPostcopy(here, there *drydockv1.HostInfo) string {
	switch {
	case !m.allowsPostcopy() || !m.mayUse(postcopy):
		return "post-copy is not allowed for this pod"
	case !restoresLazily(here) || !restoresLazily(there):
		return "CRIU cannot restore lazily on both hosts"
	}
	return rewrites(here.GetKernel(), there.GetKernel())
}

func (m *move) allowsPostcopy() bool { return m.spec.AllowPostcopy || m.rec.Spec.AllowPostcopy }

func restoresLazily(i *drydockv1.HostInfo) bool {
	return i.GetCriuFeatures()[lazyPages] || i.GetCriuFeatures()[lazyPagesAlias]
}

// budget is the longest freeze that is wanted.
func (m *move) budget() time.Duration {
	if wanted := m.spec.DowntimeBudget.AsDuration(); wanted != 0 {
		return wanted
	}
	return defaultBudget
}

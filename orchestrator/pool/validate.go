package pool

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"drydock/internal/config"
	"drydock/internal/strictyaml"
	"drydock/orchestrator/window"
)

// validator finds what no single key shows: what is missing, impossible or contradicts itself.
type validator struct {
	document *strictyaml.Document
	lines    []string
	pool     *Pool
	faults   Faults
}

func (v *validator) add(p strictyaml.Problem) {
	v.faults = append(v.faults, Fault{File: p.File, Line: p.Line, Column: p.Column, Key: p.Field, Message: p.Reason, Remedy: p.Remedy})
}

// fault is about a key that may be missing: its place is then that of the nearest key around it.
func (v *validator) fault(path, message, remedy string) {
	v.add(v.document.Problem(path, message, remedy))
}

func (v *validator) all() {
	p := v.pool
	v.name("name", p.Name)
	v.hosts()
	for i, w := range p.Windows {
		v.window(fmt.Sprintf("windows[%d]", i), w)
	}
	v.oneOf("schedule", p.Schedule, ScheduleManual, ScheduleWindow)
	if p.Schedule == ScheduleWindow && len(p.Windows) == 0 {
		v.fault("schedule", "is window, and the pool has no window", "add `windows`, or write `schedule: manual`")
	}
	v.oneOf("reboot", p.Reboot, RebootNever, RebootWhenRequired, RebootAlways)
	v.patch()
	v.atOnce()
	v.pods()
	v.limits()
	v.gates()
	v.hooks()
	v.fence()
	v.notify()
}

// set says whether the file has the key.
func (v *validator) set(path string) bool { return v.document.Has(path) }

func (v *validator) name(path, name string) {
	switch {
	case name == "" && !v.set(path):
		v.fault(path, "is missing", "give it a name, such as "+path+": web")
	case !config.ValidName(name):
		v.fault(path, fmt.Sprintf("%q is no name", name), "use 1 to 63 of a-z, 0-9 and -, not beginning or ending with -")
	}
}

func (v *validator) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		v.fault(path, fmt.Sprintf("%q is not known", value), "write "+strings.Join(allowed[:len(allowed)-1], ", ")+" or "+allowed[len(allowed)-1])
	}
}

// eachOf is oneOf for a list, which must not be empty.
func (v *validator) eachOf(path string, values []string, allowed ...string) {
	if len(values) == 0 {
		v.fault(path, "is empty", "write one or more of "+strings.Join(allowed, ", "))
	}
	for i, value := range values {
		v.oneOf(fmt.Sprintf("%s[%d]", path, i), value, allowed...)
	}
	v.unique(path, values)
}

func (v *validator) unique(path string, values []string) {
	for i, value := range values {
		if first := slices.Index(values, value); first < i {
			v.fault(fmt.Sprintf("%s[%d]", path, i), fmt.Sprintf("%q is in the list already", value), "remove it")
		}
	}
}

func (v *validator) positive(path string, length time.Duration) {
	if length <= 0 {
		v.fault(path, "must be longer than 0s", "write for example 10s")
	}
}

func (v *validator) notNegative(path string, number int) {
	if number < 0 {
		v.fault(path, fmt.Sprintf("%d is less than 0", number), "write 0 or more")
	}
}

func (v *validator) hosts() {
	h := v.pool.Hosts
	if len(h.Names) == 0 && len(h.Labels) == 0 {
		v.fault("hosts", "the pool has no host", "name hosts in `hosts.names`, or select them by `hosts.labels`")
	}
	for i, name := range h.Names {
		v.name(fmt.Sprintf("hosts.names[%d]", i), name)
	}
	v.unique("hosts.names", h.Names)
}

func (v *validator) window(path string, w Window) {
	if len(w.Days) == 0 {
		v.fault(path+".days", "the window never opens: it has no day", "name days, or remove `days`, which means every day")
	}
	for i, day := range w.Days {
		if _, err := parseDays([]string{day}); err != nil {
			v.fault(fmt.Sprintf("%s.days[%d]", path, i), err.Error(), "write mon, tue, wed, thu, fri, sat, sun or a range such as mon-fri")
		}
	}
	known := true
	for _, end := range [][2]string{{path + ".from", w.From}, {path + ".to", w.To}} {
		if _, err := window.ParseClock(end[1]); err != nil {
			known = false
			message := err.Error()
			if !v.set(end[0]) {
				message = "is missing"
			}
			v.fault(end[0], message, "write a time from \"00:00\" to \"24:00\", in quotes")
		}
	}
	if _, err := time.LoadLocation(w.Zone); err != nil || w.Zone == "" || w.Zone == "Local" {
		v.fault(path+".zone", fmt.Sprintf("%q is no zone", w.Zone), "write UTC, or a place of the IANA list such as Europe/Berlin")
		known = false
	}
	if parsed, err := w.parse(); known && err == nil {
		v.length(path, w, parsed)
	}
}

func (v *validator) length(path string, w Window, parsed window.Window) {
	if parsed.From == parsed.To || parsed.From == 24*60 {
		v.fault(path+".to", fmt.Sprintf("a window from %s to %s has no length", w.From, w.To), "for the whole day write from: \"00:00\", to: \"24:00\"")
		return
	}
	if lasts := v.pool.WindowSet().Lasts(parsed); w.MinLeft >= lasts {
		v.fault(path+".min-left", fmt.Sprintf("%s must be left to start a host, and the window lasts %s: no host would ever be started", w.MinLeft, lasts),
			"make it shorter, or the window longer")
	}
}

func (v *validator) patch() {
	p := v.pool.Patch
	v.oneOf("patch.what", p.What, PatchSecurity, PatchAll, PatchPackages)
	v.oneOf("patch.conffiles", p.Conffiles, "keep", "replace")
	switch {
	case p.What == PatchPackages && len(p.Packages) == 0:
		v.fault("patch.packages", "no package is named", "name packages in `patch.packages`, or write `what: security`")
	case p.What != PatchPackages && len(p.Packages) > 0:
		v.fault("patch.packages", "packages are named, and `patch.what` is "+p.What, "write `what: packages`, or remove the list")
	}
	for i, name := range p.Hold {
		if slices.Contains(p.Packages, name) {
			v.fault(fmt.Sprintf("patch.hold[%d]", i), name+" is to be patched and held", "remove it from `patch.packages` or from `patch.hold`")
		}
	}
	v.packages("patch.packages", p.Packages)
	v.packages("patch.hold", p.Hold)
	if p.WithoutDrain && v.pool.Reboot == RebootAlways {
		v.fault("patch.without-drain", "every host is rebooted, so every host is drained", "remove it, or write `reboot: when-required`")
	}
}

func (v *validator) packages(path string, names []string) {
	for i, name := range names {
		if name == "" || strings.ContainsAny(name, " =/*") || strings.HasPrefix(name, "-") {
			v.fault(fmt.Sprintf("%s[%d]", path, i), fmt.Sprintf("%q is no package's name", name), "write the name alone; versions are pinned by the plan")
		}
	}
	v.unique(path, names)
}

func (v *validator) atOnce() {
	a, hosts := v.pool.AtOnce, v.pool.Hosts
	for path, number := range map[string]int{"at-once.hosts": a.Hosts, "at-once.domains": a.Domains, "at-once.canaries": a.Canaries} {
		if number < 1 && (number < 0 || path != "at-once.canaries") {
			v.fault(path, fmt.Sprintf("%d is too few", number), "write 1 or more")
		}
	}
	if n := len(hosts.Names); n > 1 && len(hosts.Labels) == 0 && a.Hosts >= n {
		v.fault("at-once.hosts", fmt.Sprintf("all %d hosts at once leave none for the pods", n), fmt.Sprintf("write %d or less", n-1))
	}
	if a.Canaries > max(a.Hosts, 1) {
		v.fault("at-once.canaries", fmt.Sprintf("%d canaries, and %d hosts at once", a.Canaries, a.Hosts), "write no more than `at-once.hosts`")
	}
	if a.FailureDomain == "" && v.set("at-once.domains") {
		v.fault("at-once.domains", "limits failure domains, and none are described", "name the label of hosts in `at-once.failure-domain`")
	}
	if a.Domains > max(a.Hosts, 1) {
		v.fault("at-once.domains", fmt.Sprintf("%d failure domains, and %d hosts at once", a.Domains, a.Hosts), "write no more than `at-once.hosts`")
	}
}

func (v *validator) limits() {
	p := v.pool
	v.notNegative("error-budget.hosts", p.ErrorBudget.Hosts)
	v.notNegative("error-budget.moves", p.ErrorBudget.Moves)
	if n := len(p.Hosts.Names); n > 0 && len(p.Hosts.Labels) == 0 && p.ErrorBudget.Hosts >= n {
		v.fault("error-budget.hosts", fmt.Sprintf("%d hosts may fail, and the pool has %d: the rollout would never stop", p.ErrorBudget.Hosts, n),
			fmt.Sprintf("write %d or less", n-1))
	}
	if v.set("soak.canaries") && p.AtOnce.Canaries == 0 {
		v.fault("soak.canaries", "there are no canaries to watch", "remove it, or let `at-once.canaries` be 1 or more")
	}
}

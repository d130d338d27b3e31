package pool

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"drydock/orchestrator/gate"
)

func (v *validator) pods() {
	p := v.pool.Pods
	v.positive("pods.downtime-budget", p.DowntimeBudget)
	v.eachOf("pods.modes", p.Modes, "stop", "precopy", "postcopy")
	v.oneOf("pods.cannot-move", p.CannotMove, CannotMoveBlock, CannotMoveStop)
	v.oneOf("pods.return", p.Return, ReturnAffinity, ReturnAlways, ReturnNever)
	if v.set("pods.grace") && p.CannotMove == CannotMoveBlock {
		v.fault("pods.grace", "no pod is ever stopped: `pods.cannot-move` is block", "remove it, or write `cannot-move: stop`")
	}
	names := map[string]bool{}
	for i, group := range p.Apart {
		path := fmt.Sprintf("pods.apart[%d]", i)
		v.name(path+".name", group.Name)
		v.taken(path+".name", group.Name, names)
		v.oneOf(path+".scope", group.Scope, ScopeHost, ScopeFailureDomain)
		if len(group.Pods) < 2 && len(group.Labels) == 0 {
			v.fault(path, "the group does not have two pods that could be kept apart", "name two or more in `pods`, or select them by `labels`")
		}
		v.unique(path+".pods", group.Pods)
		if group.Scope == ScopeFailureDomain && v.pool.AtOnce.FailureDomain == "" {
			v.fault(path+".scope", "keeps pods apart by failure domain, and none are described", "name the label of hosts in `at-once.failure-domain`")
		}
	}
}

func (v *validator) taken(path, name string, names map[string]bool) {
	if names[name] && name != "" {
		v.fault(path, fmt.Sprintf("another one is called %q too", name), "choose another name")
	}
	names[name] = true
}

func (v *validator) gates() {
	names := map[string]bool{}
	for i, g := range v.pool.Gates {
		path := fmt.Sprintf("gates[%d]", i)
		v.name(path+".name", g.Name)
		v.taken(path+".name", g.Name, names)
		v.eachOf(path+".at", g.At, AtStart, AtHost, AtEnd)
		v.positive(path+".timeout", g.Timeout)
		var asks []string
		for _, kind := range []string{"cel", "http", "prometheus", "manual"} {
			if v.set(path + "." + kind) {
				asks = append(asks, kind)
			}
		}
		if len(asks) != 1 {
			v.fault(path, fmt.Sprintf("a gate asks one thing, and this one asks %d", len(asks)), "write exactly one of cel, http, prometheus and manual")
		}
		v.gate(path, g)
	}
}

func (v *validator) gate(path string, g Gate) {
	if v.set(path + ".cel") {
		v.cel(path+".cel", g.CEL)
	}
	if v.set(path+".manual") && strings.TrimSpace(g.Manual) == "" {
		v.fault(path+".manual", "is empty", "say what the operator is to look at")
	}
	if h := g.HTTP; h != nil {
		v.url(path+".http.url", h.URL)
		v.absolute(path+".http.token-file", h.TokenFile)
		if h.Status != 0 && (h.Status < 100 || h.Status > 599) {
			v.fault(path+".http.status", fmt.Sprintf("%d is no status of HTTP", h.Status), "write 100 to 599, or remove it, which means any of 200 to 299")
		}
	}
	q := g.Prometheus
	if q == nil {
		return
	}
	v.url(path+".prometheus.url", q.URL)
	v.absolute(path+".prometheus.token-file", q.TokenFile)
	if strings.TrimSpace(q.Query) == "" {
		v.fault(path+".prometheus.query", "there is no query", "write one that gives numbers")
	}
	switch {
	case q.Below == nil && q.Above == nil:
		v.fault(path+".prometheus", "any number would do", "set `below`, `above` or both")
	case q.Below != nil && q.Above != nil && *q.Above >= *q.Below:
		v.fault(path+".prometheus.above", fmt.Sprintf("no number is above %v and below %v", *q.Above, *q.Below), "let `above` be less than `below`")
	}
}

// cel compiles an expression, and finds the place of a fault within the file.
func (v *validator) cel(path, source string) {
	_, err := gate.CompileCEL(source)
	if err == nil {
		return
	}
	remedy := "see docs/pools.md for what an expression may use"
	var wrong *gate.ExpressionError
	if !errors.As(err, &wrong) {
		v.fault(path, err.Error(), remedy)
		return
	}
	place, found := v.document.Place(path), v.document.Problem(path, wrong.Message, remedy)
	switch {
	case place.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		first := v.lines[min(place.Line, len(v.lines)-1)]
		found.Column = wrong.Column + len(first) - len(strings.TrimLeft(first, " "))
		found.Line += wrong.Line
	case wrong.Line == 1:
		found.Column += wrong.Column - 1
		if place.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
			found.Column++
		}
	}
	v.add(found)
}

func (v *validator) url(path, text string) {
	parsed, err := url.Parse(gate.ForHost(text, "host"))
	if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
		v.fault(path, fmt.Sprintf("%q is no URL", text), "write one that begins with http:// or https://")
	}
}

func (v *validator) absolute(path, name string) {
	if name != "" && !filepath.IsAbs(name) {
		v.fault(path, fmt.Sprintf("%q is no absolute path", name), "write it from the root on; it is read on the controllers")
	}
}

func (v *validator) hooks() {
	h := v.pool.Hooks
	for point, hooks := range map[string][]Hook{"start": h.Start, "before-host": h.BeforeHost, "after-host": h.AfterHost, "end": h.End} {
		for i, hook := range hooks {
			path := fmt.Sprintf("hooks.%s[%d]", point, i)
			v.command(path+".command", hook.Command)
			v.positive(path+".timeout", hook.Timeout)
			v.oneOf(path+".run", hook.Run, RunHost, RunController)
			if hook.Run == RunHost && (point == "start" || point == "end") {
				v.fault(path+".run", "there is no host at the "+point+" of a rollout", "write `run: controller`, or use before-host or after-host")
			}
		}
	}
}

func (v *validator) command(path string, command []string) {
	if len(command) == 0 || !filepath.IsAbs(command[0]) {
		v.fault(path, "names no program by its absolute path", "write for example [/usr/local/bin/tell, start]")
	}
}

func (v *validator) fence() {
	f := v.pool.Fence
	if f == nil {
		return
	}
	v.positive("fence.timeout", f.Timeout)
	if v.set("fence.command") == (f.IPMI != nil) {
		v.fault("fence", "needs one way to switch a host off", "write exactly one of command and ipmi")
		return
	}
	if f.IPMI == nil {
		v.command("fence.command", f.Command)
		if !slices.ContainsFunc(f.Command, func(word string) bool { return strings.Contains(word, "{host}") }) {
			v.fault("fence.command", "is not told which host to switch off", "let one of its words contain {host}")
		}
		return
	}
	if !strings.Contains(f.IPMI.Address, "{host}") {
		v.fault("fence.ipmi.address", "is the same for every host", "write for example {host}.ipmi.example.org")
	}
	if f.IPMI.User == "" {
		v.fault("fence.ipmi.user", "is missing", "name a user who may switch hosts off")
	}
	if f.IPMI.PasswordFile == "" {
		v.fault("fence.ipmi.password-file", "is missing", "name a file with the password, on the controllers")
	}
	v.absolute("fence.ipmi.password-file", f.IPMI.PasswordFile)
	v.oneOf("fence.ipmi.interface", f.IPMI.Interface, "lanplus", "lan")
}

func (v *validator) notify() {
	for i, hook := range v.pool.Notify {
		path := fmt.Sprintf("notify[%d]", i)
		v.url(path+".url", hook.URL)
		v.absolute(path+".token-file", hook.TokenFile)
		v.positive(path+".timeout", hook.Timeout)
		v.eachOf(path+".events", hook.Events, "started", "host-patched", "waiting", "stopped", "resumed", "aborted", "finished")
	}
}

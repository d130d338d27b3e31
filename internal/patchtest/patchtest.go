//go:build root

// Package patchtest asks hosts for patches in tests, whichever package manager they have, and ends the test where what must
// come about does not.
package patchtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/patch"
)

// Patcher asks one host.
type Patcher struct {
	T    *testing.T
	Host *patch.Host
}

// All asks for every update.
func All() *drydockv1.PatchPolicy { return &drydockv1.PatchPolicy{What: patch.All} }

// Quiet hears nothing of how far something is.
func Quiet(int32, string) {}

// Resolve asks for a patch, with the archives asked first.
func (p *Patcher) Resolve(policy *drydockv1.PatchPolicy) *drydockv1.ResolveResponse {
	p.T.Helper()
	res, err := p.Host.Resolve(context.Background(), policy, true)
	if err != nil {
		p.T.Fatal(err)
	}
	return res
}

// Patch is that of all updates, and nothing is in its way.
func (p *Patcher) Patch() *drydockv1.Patch {
	p.T.Helper()
	res := p.Resolve(All())
	if len(res.Refusals) != 0 || len(res.Patch.Packages) == 0 {
		p.T.Fatal(res)
	}
	return res.Patch
}

// Download fetches a patch's files.
func (p *Patcher) Download(wanted *drydockv1.Patch) error {
	return p.Host.Download(context.Background(), wanted, Quiet)
}

// Ready is the patch of all updates, downloaded.
func (p *Patcher) Ready() *drydockv1.Patch {
	p.T.Helper()
	wanted := p.Patch()
	if err := p.Download(wanted); err != nil {
		p.T.Fatal(err)
	}
	return wanted
}

// Apply installs a patch, and keeps changed configuration files.
func (p *Patcher) Apply(wanted *drydockv1.Patch) *drydockv1.PatchResult {
	p.T.Helper()
	return p.ApplyWith(patch.Order{ID: "r1/h1", Patch: wanted, Conffiles: patch.Keep}, Quiet)
}

// ApplyWith carries out an order. How long that may take is no promise.
func (p *Patcher) ApplyWith(o patch.Order, tell patch.Tell) *drydockv1.PatchResult {
	p.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	result, err := p.Host.Apply(ctx, o, tell)
	if err != nil {
		p.T.Fatal(err)
	}
	return result
}

// Done ends the test where a result says that the patch was not applied.
func (p *Patcher) Done(result *drydockv1.PatchResult) {
	p.T.Helper()
	if !result.Done || len(result.Refusals) != 0 {
		p.T.Fatalf("not done: %v\n%s", result.Refusals, result.Log)
	}
}

// patience is far more than anything takes on a busy machine.
const patience = 10 * time.Minute

// Await waits for something to come about.
func (p *Patcher) Await(what string, is func() bool) {
	p.T.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if is() {
			return
		}
	}
	p.T.Fatalf("waited in vain: %s", what)
}

// Reasons are those of an error or a list, in one text; it is empty where one of them has no remedy.
func Reasons(what any) string {
	var list []*drydockv1.Refusal
	switch what := what.(type) {
	case []*drydockv1.Refusal:
		list = what
	case error:
		var refused *patch.Refused
		if errors.As(what, &refused) {
			list = refused.Reasons
		}
	}
	var text strings.Builder
	for _, r := range list {
		if r.Remedy == "" {
			return ""
		}
		text.WriteString(r.Reason + "\n")
	}
	return text.String()
}

// Processes are those of this machine that are meant, by their directories in /proc, without this one.
func (p *Patcher) Processes(meant func(dir string) bool) []int {
	p.T.Helper()
	found, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		p.T.Fatal(err)
	}
	var pids []int
	for _, dir := range found {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err == nil && pid != os.Getpid() && meant(dir) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Kill ends a program's processes without warning. There must be one.
func (p *Patcher) Kill(program string, pids []int) {
	p.T.Helper()
	if len(pids) == 0 {
		p.T.Fatalf("no %s runs", program)
	}
	for _, pid := range pids {
		process, err := os.FindProcess(pid)
		if err == nil {
			err = process.Kill()
		}
		if err != nil {
			p.T.Fatal(err)
		}
	}
}

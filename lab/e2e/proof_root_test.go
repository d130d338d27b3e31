//go:build root

package e2e

import (
	"context"
	"strings"
	"testing"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
)

// onHost runs a shell script on a host.
func onHost(t *testing.T, host, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	out, err := shared.Exec(ctx, host, "sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// proofOf is what a host has proven of itself last; nil where nothing yet.
func proofOf(t *testing.T, name string) *drydockv1.RestoreProof {
	t.Helper()
	res, err := shared.GetHost(t.Context(), connect.NewRequest(&drydockv1.GetHostRequest{Name: name}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg.GetHost().GetInfo().GetProof()
}

func TestAHostThatCannotDumpAndRestoreIsNeitherSourceNorDestination(t *testing.T) {
	runPod(t, "steady", idle...)
	for _, host := range []string{"h1", "h2"} {
		until(t, host+" proven", func() bool { p := proofOf(t, host); return p != nil && p.Error == "" })
	}
	// It says of itself that all is well.
	const swap = `set -e; p=$(command -v criu); mv $p $p.real
printf '#!/bin/sh\ncase "$1" in --version|check) exec %s.real "$@";; esac\nexit 1\n' $p >$p; chmod 755 $p`
	const back = "p=$(command -v criu); [ ! -e $p.real ] || mv $p.real $p"
	t.Cleanup(func() { onHost(t, "h2", back) })
	onHost(t, "h2", swap)
	// Nobody asks: the agent sees that it has another CRIU.
	until(t, "h2 has tried its CRIU", func() bool { p := proofOf(t, "h2"); return p != nil && p.Error != "" })
	refuses(t, 3, []string{"h2", "cannot dump and restore a pod", "remedy: "}, "migrate", "steady", "--to", "h2")
	if got := try(t, "host", "doctor", "h2"); !strings.Contains(got.out, "dump and restore") || !strings.Contains(got.err, "go together") {
		t.Errorf("host doctor says: %s", got)
	}
	seen(t, "steady")
	onHost(t, "h2", back)
	// Asked for, it is tried at once.
	try(t, "host", "doctor", "h2")
	until(t, "h2 proven again", func() bool { return proofOf(t, "h2").GetError() == "" })
	move(t, "steady", "h2")
	// A pod does not leave a host that cannot dump it, and runs on there.
	onHost(t, "h2", swap)
	until(t, "h2 has tried its CRIU again", func() bool { return proofOf(t, "h2").GetError() != "" })
	refuses(t, 3, []string{"cannot dump and restore a pod", "remedy: "}, "migrate", "steady", "--to", "h1")
	onHost(t, "h2", back)
	try(t, "host", "doctor", "h2")
	until(t, "h2 proven once more", func() bool { return proofOf(t, "h2").GetError() == "" })
	until(t, "nothing of a proof is left", func() bool {
		return strings.TrimSpace(onHost(t, "h2", "ls -d /run/drydock/probe 2>/dev/null; pgrep -f '[d]rydock-probe' || true")) == ""
	})
	do(t, "pod", "rm", "--force", "steady")
}

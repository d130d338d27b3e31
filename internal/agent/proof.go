package agent

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/patch"
	"drydock/pods/probe"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// newProofs makes what keeps proving that this host can dump and restore.
func (a *agent) newProofs() (*probe.Watch, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	probing := &probe.Probe{
		Dir: filepath.Join(a.cfg.RunDir, "probe"), Cgroup: filepath.Join(a.cfg.CgroupParent, "probe"), Program: program, Args: []string{"probe"},
	}
	return &probe.Watch{Prove: probing.Run, Stack: installedStack, Log: a.log}, nil
}

// installedStack names the kernel that runs, and the CRIU and the runc that are installed, by what tells one file from another.
func installedStack(context.Context) (string, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", fmt.Errorf("kernel: %w", err)
	}
	stack := "kernel " + unix.ByteSliceToString(uts.Release[:]) + " " + unix.ByteSliceToString(uts.Version[:])
	for _, program := range []string{"criu", "runc"} {
		path, err := exec.LookPath(program)
		if err != nil {
			return "", err
		}
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		stack += fmt.Sprintf(", %s of %d bytes from %s", program, info.Size(), info.ModTime().UTC().Format("2006-01-02 15:04:05"))
	}
	return stack, nil
}

// proof is the last one, as reports have it.
func (a *agent) proof() *drydockv1.RestoreProof {
	last := a.proofs.Last()
	if last.At.IsZero() {
		return nil
	}
	proof := &drydockv1.RestoreProof{Tried: timestamppb.New(last.At), Took: durationpb.New(last.Took), Stack: last.Stack}
	if last.Err != nil {
		proof.Error = last.Err.Error()
	}
	return proof
}

// prove tries it now, for a rollout that has patched this host.
func (a *agent) prove(ctx context.Context) []*drydockv1.Refusal {
	if p := a.proofs.Now(ctx); p.Err != nil {
		return []*drydockv1.Refusal{patch.Refusal("see `drydock host doctor`, and install a kernel, CRIU and runc that go together",
			"this host cannot dump and restore a pod: %v", p.Err)}
	}
	return nil
}

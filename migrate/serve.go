package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/config"
	"drydock/migrate/filesync"
	"drydock/migrate/owner"
	"drydock/migrate/transfer"
)

// Serve takes one connection of a migration that is received here, until it ends. from is the host that opened it.
func (e *Engine) Serve(ctx context.Context, conn net.Conn, from string, hello transfer.Hello) error {
	pod, name, _ := strings.Cut(hello.Name, "/")
	if err := e.FromSource(pod, hello.Migration, from); err != nil {
		return err
	}
	coming, err := e.arrival(pod, hello.Migration)
	if err != nil {
		return err
	}
	end, err := coming.serve(conn)
	if err != nil {
		return err
	}
	defer end()
	switch hello.Kind {
	case transfer.Images:
		return coming.images.Receive(conn)
	case transfer.Files:
		return e.serveFiles(ctx, conn, coming, pod, name)
	}
	return fmt.Errorf("a connection of migration %s says that it carries %q, which this agent does not know", hello.Migration, hello.Kind)
}

// FromSource refuses what another host than the source asks about a migration that is received here.
func (e *Engine) FromSource(pod, migration, host string) error {
	if !config.ValidName(pod) {
		return fmt.Errorf("%q is no name of a pod", pod)
	}
	j, err := e.journals.load(pod)
	if err == nil && j.Side == owner.Destination && j.Migration == migration && j.Peer.Host != host {
		err = fmt.Errorf("migration %s of pod %s is from host %s, and not from %s", migration, pod, j.Peer.Host, host)
	}
	return err
}

// Enter refuses to show anybody a pod that has come here and may still be given back as it was.
func (e *Engine) Enter(pod string) error {
	j, err := e.journals.load(pod)
	if err == nil && j.Side == owner.Destination && !j.Seen() {
		err = fmt.Errorf("pod %s is arriving on host %s: try again in a moment", pod, e.Here.Host)
	}
	return err
}

func (e *Engine) serveFiles(ctx context.Context, conn net.Conn, coming *arrival, pod, name string) error {
	trees, err := e.Pods.Trees(ctx, pod)
	if err != nil {
		return err
	}
	for _, t := range trees {
		if t.Name != name {
			continue
		}
		target, err := filesync.NewTarget(t.Dir)
		if err != nil {
			return err
		}
		coming.mu.Lock()
		coming.files = append(coming.files, target)
		coming.mu.Unlock()
		return transfer.ReceiveFiles(ctx, conn, target)
	}
	return fmt.Errorf("pod %s has no %s here", pod, name)
}

// Discard undoes the receiving of a migration, unless it was committed.
func (e *Engine) Discard(ctx context.Context, pod, migration string) error {
	release, err := e.hold(ctx, pod)
	if err != nil {
		return err
	}
	defer release()
	// Whoever asked may not wait for the end, which must not be left half done: containerd forgets a task whose deletion is
	// cut off before it has ended the task's shim.
	ctx = context.WithoutCancel(ctx)
	j, err := e.journals.load(pod)
	if err != nil {
		return err
	}
	if j.Side != owner.Destination || j.Migration != migration {
		return nil
	}
	e.place(pod).interrupt()
	_, err = e.resolve(ctx, pod, nil)
	return err
}

// Result says, after Arrived, what became of the migration here.
func (e *Engine) Result(pod string, last owner.Step, err error) *drydockv1.ReceiveResult {
	result := &drydockv1.ReceiveResult{}
	result.FramesHeld = e.place(pod).framesHeld()
	j, jerr := e.journals.load(pod)
	switch {
	case jerr == nil && j.Side == owner.Resident:
		result.Outcome = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED
	case jerr == nil && j.Side == "":
		result.Outcome = drydockv1.MigrationOutcome_MIGRATION_OUTCOME_ABORTED
		result.Error = cmp.Or(e.place(pod).whyGivenUp(), last.Reason)
	default:
		result.Error = fmt.Sprintf("%s: %s", last.Action, last.Reason)
	}
	if err = errors.Join(err, jerr); err != nil {
		result.Error = err.Error()
	}
	return result
}

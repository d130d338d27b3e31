package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
)

func newPatchCommand(a *app) *cobra.Command {
	detach := false
	cmd := &cobra.Command{
		Use:               "patch POOL",
		Short:             "Patch the hosts of a pool while its pods run on",
		Long:              "Patch the hosts of a pool while its pods run on, and show how far that is. Interrupting the command does not stop the rollout.",
		Args:              exactly("POOL"),
		ValidArgsFunction: a.completeArgs(poolNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := wait(cmd.Context(), c.StartRollout, &v1.StartRolloutRequest{Pool: args[0]})
			if err != nil {
				return err
			}
			if res.Rollout == nil {
				return a.print(message{res.Plan}, func(t *table) { planTables(t, res.Plan) })
			}
			if detach {
				return a.print(message{res.Rollout}, func(t *table) {
					t.line("rollout %s of pool %s has begun: `drydock rollout watch %s`", res.Rollout.Id, res.Rollout.Pool, res.Rollout.Id)
				})
			}
			return a.watchRollout(cmd.Context(), c, res.Rollout.Id)
		},
	}
	cmd.Flags().BoolVar(&detach, "detach", false, "return as soon as the rollout has begun")
	return cmd
}

// watchRollout follows a rollout until it rests, and shows it.
func (a *app) watchRollout(ctx context.Context, c *client, id string) error {
	last, err := a.followRollout(ctx, c, id)
	switch {
	case ctx.Err() != nil:
		return &failure{status: statusFailed, message: fmt.Sprintf("interrupted; rollout %s goes on", id),
			remedies: []string{"watch it with `drydock rollout watch " + id + "`", "hold it with `drydock rollout pause " + id + "`"}}
	case err != nil:
		return err
	case last == nil:
		return fmt.Errorf("the controller ended the watch of rollout %s without a word; see `drydock rollout show %[1]s`", id)
	}
	if err := a.print(message{last}, func(t *table) { a.rolloutTables(t, last) }); err != nil {
		return err
	}
	return restErr(last)
}

func (a *app) followRollout(ctx context.Context, c *client, id string) (last *v1.Rollout, err error) {
	show := a.newProgress()
	defer show.close()
	var silent outage
	for {
		err = follow(ctx, c.WatchRollout, &v1.WatchRolloutRequest{Id: id}, func(m *v1.WatchRolloutResponse) error {
			last, silent = m.Rollout, outage{}
			showRollout(show, last)
			return nil
		})
		if last == nil || !a.again(ctx, &silent, err) {
			return last, err
		}
	}
}

// showRollout has a line or a bar for the pool, and for each host that is being patched.
func showRollout(show progress, r *v1.Rollout) {
	state := stateOfRollout(r.State)
	if r.Reason != "" {
		state += ": " + r.Reason
	}
	show.update("pool "+r.Pool, &v1.MigrationProgress{
		Step: fmt.Sprintf("%d of %s patched", r.HostsPatched, plural(int(r.HostsTotal), "host")), StepIndex: r.HostsPatched, StepCount: max(r.HostsTotal, 1), Message: state,
	})
	for _, h := range r.Hosts {
		done := 0
		for _, s := range h.Steps {
			if s.Attempt == h.Attempt {
				done++
			}
		}
		if h.State == v1.RolloutHostState_ROLLOUT_HOST_STATE_PENDING && done == 0 {
			continue
		}
		p := &v1.MigrationProgress{Step: cmp.Or(h.Step, "begin"), StepIndex: int32(done), StepCount: hostSteps, Message: h.Activity}
		switch h.State {
		case v1.RolloutHostState_ROLLOUT_HOST_STATE_RUNNING:
			if h.Activity == h.Step {
				p.Message = ""
			}
		case v1.RolloutHostState_ROLLOUT_HOST_STATE_PENDING:
			p.Message = ""
		default:
			p.Message = hostStateWord(h.State)
		}
		show.update(h.Host, p)
	}
}

// hostSteps is how many steps a host goes through, for its bar.
const hostSteps = 9

// restErr is nil where everything was patched.
func restErr(r *v1.Rollout) error {
	f := &failure{status: statusFailed, refusals: r.Problems}
	switch r.State {
	case v1.RolloutState_ROLLOUT_STATE_FINISHED:
		if r.HostsFailed == 0 {
			return nil
		}
		f.message = fmt.Sprintf("rollout %s has ended, and %s failed", r.Id, plural(int(r.HostsFailed), "host"))
	case v1.RolloutState_ROLLOUT_STATE_STOPPED:
		f.message = fmt.Sprintf("rollout %s has stopped at %s", r.Id, r.Reason)
		f.remedies = []string{"then " + goOn(r)}
	default:
		f.message = fmt.Sprintf("rollout %s is %s", r.Id, stateOfRollout(r.State))
	}
	return f
}

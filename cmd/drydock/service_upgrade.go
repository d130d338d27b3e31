package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
)

func newServiceUpgrade(a *app) *cobra.Command {
	req, detach := &v1.StartUpgradeRequest{}, false
	cmd := &cobra.Command{
		Use:               "upgrade NAME --to VERSION",
		Short:             "Bring the pods of a service to a version, as its record's schedule says",
		Long:              "Bring the pods of a service to a version, as its record's schedule says, and show how far that is. Interrupting the command does not stop the upgrade.",
		Args:              exactly("NAME"),
		ValidArgsFunction: a.completeArgs(serviceNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if req.To == "" {
				return misuse(cmd, "service upgrade needs --to VERSION")
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			req.Service = args[0]
			res, err := wait(cmd.Context(), c.StartUpgrade, req)
			if err != nil {
				return err
			}
			if res.Upgrade == nil {
				return a.done("service", req.Service, "has version "+req.To+" in every pod")
			}
			if detach {
				return a.print(message{res.Upgrade}, func(t *table) {
					t.line("upgrade %s of service %s to %s has begun: `drydock upgrade watch %[1]s`", res.Upgrade.Id, req.Service, req.To)
				})
			}
			return a.watchUpgrade(cmd.Context(), c, res.Upgrade.Id)
		},
	}
	cmd.Flags().StringVar(&req.To, "to", "", "version to bring the pods to")
	cmd.Flags().StringVar(&req.Image, "image", "", "image of that version; without it, the one that it was run from last")
	cmd.Flags().StringArrayVar(&req.Pods, "pod", nil, "only this pod; may be given again")
	cmd.Flags().BoolVar(&detach, "detach", false, "return as soon as the upgrade has begun")
	return cmd
}

// watchUpgrade follows an upgrade until it rests, and shows it.
func (a *app) watchUpgrade(ctx context.Context, c *client, id string) error {
	var last *v1.Upgrade
	show := a.newProgress()
	err := follow(ctx, c.WatchUpgrade, &v1.WatchUpgradeRequest{Id: id}, func(m *v1.WatchUpgradeResponse) error {
		last = m.Upgrade
		showUpgrade(show, last)
		return nil
	})
	show.close()
	switch {
	case ctx.Err() != nil:
		return &failure{status: statusFailed, message: fmt.Sprintf("interrupted; upgrade %s goes on", id),
			remedies: []string{"watch it with `drydock upgrade watch " + id + "`", "hold it with `drydock upgrade pause " + id + "`"}}
	case err != nil:
		return err
	case last == nil:
		return fmt.Errorf("the controller ended the watch of upgrade %s without a word; see `drydock upgrade show %[1]s`", id)
	}
	if err := a.print(message{last}, func(t *table) { upgradeTables(t, last) }); err != nil {
		return err
	}
	return upgradeErr(last)
}

// upgradeSteps is how many steps a pod goes through, for its bar.
const upgradeSteps = 9

// showUpgrade has a line or a bar for the service, and for each pod that was begun.
func showUpgrade(show progress, u *v1.Upgrade) {
	state, done := stateOfUpgrade(u.State), 0
	if u.Reason != "" {
		state += ": " + u.Reason
	}
	for _, p := range u.Pods {
		if p.State == v1.UpgradePodState_UPGRADE_POD_STATE_UPGRADED {
			done++
		}
	}
	show.update("service "+u.Service, &v1.MigrationProgress{
		Step: fmt.Sprintf("%d of %s at %s", done, plural(len(u.Pods), "pod"), u.To), StepIndex: int32(done), StepCount: int32(max(len(u.Pods), 1)), Message: state,
	})
	for _, p := range u.Pods {
		if p.State == v1.UpgradePodState_UPGRADE_POD_STATE_PENDING {
			continue
		}
		n := 0
		for _, s := range p.Steps {
			if s.Attempt == p.Attempt && !s.Undone && s.Error == "" {
				n++
			}
		}
		message := p.Activity
		if p.State != v1.UpgradePodState_UPGRADE_POD_STATE_RUNNING {
			message = podStateWord(p.State)
		}
		show.update(p.Pod, &v1.MigrationProgress{Step: cmp.Or(p.Step, "done"), StepIndex: int32(n), StepCount: upgradeSteps, Message: message})
	}
}

// upgradeErr is nil where every pod has the version.
func upgradeErr(u *v1.Upgrade) error {
	f := &failure{status: statusFailed, refusals: u.Problems}
	switch u.State {
	case v1.UpgradeState_UPGRADE_STATE_FINISHED:
		return nil
	case v1.UpgradeState_UPGRADE_STATE_STOPPED:
		f.message = fmt.Sprintf("upgrade %s has stopped: %s", u.Id, u.Reason)
		f.remedies = []string{"then go on with `drydock upgrade resume " + u.Id + "`, or end it with `drydock upgrade abort " + u.Id + "`"}
	default:
		f.message = fmt.Sprintf("upgrade %s is %s", u.Id, stateOfUpgrade(u.State))
	}
	return f
}

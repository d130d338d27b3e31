package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
)

func newUpgradeCommand(a *app) *cobra.Command {
	return newGroup("upgrade", "Upgrades of services, running and past", newUpgradeList(a), newUpgradeShow(a), newUpgradeWatch(a),
		orderUpgrade(a, "pause", "Begin no more pods; those that are begun come to their end", "is paused after the pods that have begun",
			func(ctx context.Context, c *client, id string) error {
				return told(ctx, c, c.PauseUpgrade, &v1.PauseUpgradeRequest{Id: id})
			}),
		orderUpgrade(a, "resume", "Go on with an upgrade that is paused or has stopped", "goes on",
			func(ctx context.Context, c *client, id string) error {
				return told(ctx, c, c.ResumeUpgrade, &v1.ResumeUpgradeRequest{Id: id})
			}),
		orderUpgrade(a, "abort", "End an upgrade, and take back what is half done; pods that are upgraded stay so", "is aborted, and what is half done taken back",
			func(ctx context.Context, c *client, id string) error {
				return told(ctx, c, c.AbortUpgrade, &v1.AbortUpgradeRequest{Id: id})
			}))
}

// orderUpgrade is a command that tells an upgrade something and reports that in one line.
func orderUpgrade(a *app, use, short, action string, tell func(context.Context, *client, string) error) *cobra.Command {
	return &cobra.Command{
		Use:               use + " ID",
		Short:             short,
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeArgs(upgradeIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if err := tell(cmd.Context(), c, args[0]); err != nil {
				return err
			}
			return a.done("upgrade", args[0], action)
		},
	}
}

const defaultUpgrades = 20

func newUpgradeList(a *app) *cobra.Command {
	req := &v1.ListUpgradesRequest{}
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List upgrades, the latest first",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if req.Limit < 0 {
				return misuse(cmd, "limit %d: must be 0 for all, or more", req.Limit)
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.ListUpgrades, req)
			if err != nil {
				return err
			}
			return a.print(messages(res.Upgrades), func(t *table) {
				t.row("ID", "SERVICE", "TO", "STATE", "PODS", "STARTED BY", "AGE", "REASON")
				for _, u := range res.Upgrades {
					t.row(u.Id, u.Service, u.To, stateOfUpgrade(u.State), upgradedOf(u), u.StartedBy, a.age(u.Started), u.Reason)
				}
			})
		},
	}
	cmd.Flags().StringVar(&req.Service, "service", "", "only those of this service")
	cmd.Flags().Int32Var(&req.Limit, "limit", defaultUpgrades, "how many at most; 0 is all")
	a.complete(cmd, "service", serviceNames)
	return cmd
}

func newUpgradeShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "show ID",
		Short:             "Show an upgrade: every pod and step, and why",
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeArgs(upgradeIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.GetUpgrade, &v1.GetUpgradeRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return a.print(message{res.Upgrade}, func(t *table) {
				upgradeTables(t, res.Upgrade)
				problemsSection(t, res.Upgrade.Problems)
			})
		},
	}
}

func newUpgradeWatch(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "watch ID",
		Short:             "Follow an upgrade until it has ended, stopped or is paused",
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeArgs(upgradeIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			return a.watchUpgrade(cmd.Context(), c, args[0])
		},
	}
}

// upgradeTables show an upgrade, without its problems.
func upgradeTables(t *table, u *v1.Upgrade) {
	t.field("Upgrade", u.Id)
	t.field("Service", u.Service)
	t.field("To", joinWords(u.To, parenthesised(u.Image)))
	t.field("State", joinWords(stateOfUpgrade(u.State), parenthesised(u.Reason)))
	t.field("Schedule", scheduleWords(u.Schedule))
	t.field("Started", joinWords(moment(u.Started), "by "+u.StartedBy))
	t.field("Ended", moment(u.Ended))
	t.field("Pods", upgradedOf(u)+" upgraded")
	t.section("", "POD", "FROM", "STATE", "STEP", "TOOK")
	for _, p := range u.Pods {
		var all time.Duration
		for _, s := range p.Steps {
			all += s.GetTook().AsDuration()
		}
		t.row(p.Pod, p.From, podStateWord(p.State), p.Step, duration(all))
	}
}

func scheduleWords(s *v1.UpgradeSchedule) string {
	words := s.GetKind()
	for _, more := range []struct {
		name, value string
		is          bool
	}{
		{"at once", fmt.Sprint(s.GetAtOnce()), s.GetAtOnce() > 0}, {"soak", took(s.GetSoak()), s.GetSoak() != nil},
		{"flag", s.GetFlag(), s.GetFlag() != ""}, {"percent", fmt.Sprint(s.GetPercent()), s.GetPercent() > 0}, {"label", s.GetLabel(), s.GetLabel() != ""},
	} {
		if more.is {
			words += ", " + more.name + " " + more.value
		}
	}
	return words
}

func upgradedOf(u *v1.Upgrade) string {
	done := 0
	for _, p := range u.Pods {
		if p.State == v1.UpgradePodState_UPGRADE_POD_STATE_UPGRADED {
			done++
		}
	}
	return fmt.Sprintf("%d/%d", done, len(u.Pods))
}

func stateOfUpgrade(s v1.UpgradeState) string  { return word(s.String(), "UPGRADE_STATE_") }
func podStateWord(s v1.UpgradePodState) string { return word(s.String(), "UPGRADE_POD_STATE_") }

func upgradeIDs(ctx context.Context, a *app) ([]string, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := ask(ctx, c, c.ListUpgrades, &v1.ListUpgradesRequest{Limit: defaultUpgrades})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, u := range res.Upgrades {
		out = append(out, cobra.CompletionWithDesc(u.Id, u.Service+" to "+u.To+", "+stateOfUpgrade(u.State)))
	}
	return out, nil
}

func serviceNames(ctx context.Context, a *app) ([]string, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := ask(ctx, c, c.ListServices, &v1.ListServicesRequest{})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range res.Services {
		out = append(out, s.Name)
	}
	return out, nil
}

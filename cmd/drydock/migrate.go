package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "drydock/api/drydock/v1"
)

func modes() []string { return []string{"auto", "stop", "precopy", "postcopy"} }

// modeFlag gives cmd --mode, and returns what reads it.
func (a *app) modeFlag(cmd *cobra.Command) func() (v1.MigrationMode, error) {
	mode := cmd.Flags().String("mode", "auto", "how to move the memory: auto, stop, precopy or postcopy")
	a.complete(cmd, "mode", fixed(modes()...))
	return func() (v1.MigrationMode, error) {
		n, ok := v1.MigrationMode_value["MIGRATION_MODE_"+strings.ToUpper(*mode)]
		if !ok || n == 0 {
			return 0, misuse(cmd, "mode %q: must be one of %s", *mode, strings.Join(modes(), ", "))
		}
		return v1.MigrationMode(n), nil
	}
}

func newMigrateCommand(a *app) *cobra.Command {
	req := &v1.MigratePodRequest{}
	var budget time.Duration
	cmd := &cobra.Command{
		Use:   "migrate POD --to HOST",
		Short: "Move a running pod to another host",
		Args:  exactly("POD"),
	}
	f := cmd.Flags()
	f.StringVar(&req.To, "to", "", "host to move it to")
	f.DurationVar(&budget, "downtime-budget", 0, "longest freeze wanted, such as 500ms; without it the controller's default")
	f.BoolVar(&req.AllowPostcopy, "allow-postcopy", false, "let the pod run at the destination before all its memory is there")
	f.BoolVar(&req.DryRun, "dry-run", false, "only check, and estimate bytes, time and freeze")
	mode := a.modeFlag(cmd)
	a.complete(cmd, "to", hostNames)
	cmd.ValidArgsFunction = a.completeArgs(podNames)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if req.Mode, err = mode(); err != nil {
			return err
		}
		switch {
		case req.To == "":
			return misuse(cmd, "migrate needs --to HOST")
		case cmd.Flags().Changed("downtime-budget") && budget <= 0:
			return misuse(cmd, "downtime budget %s: must be longer than nothing", budget)
		case budget > 0:
			req.DowntimeBudget = durationpb.New(budget)
		}
		req.Pod = args[0]
		c, err := a.connect()
		if err != nil {
			return err
		}
		report, err := a.migrate(cmd.Context(), c, req)
		if err != nil {
			return err
		}
		if err := a.print(message{report}, func(t *table) { a.migrationTable(t, report, false) }); err != nil {
			return err
		}
		return outcomeError(report)
	}
	return cmd
}

// migrate asks for the migration and shows it until its report is there. The migration outlives the call: where the controller went
// away it is followed with the next one, and whatever else ends the call early says that it goes on.
func (a *app) migrate(ctx context.Context, c *client, req *v1.MigratePodRequest) (*v1.MigrationReport, error) {
	var report *v1.MigrationReport
	id := ""
	show := a.newProgress()
	err := follow(ctx, c.MigratePod, req, func(m *v1.MigratePodResponse) error {
		switch e := m.Event.(type) {
		case *v1.MigratePodResponse_Progress:
			id = e.Progress.Migration
			show.update(req.Pod, e.Progress)
		case *v1.MigratePodResponse_Report:
			report = e.Report
		}
		return nil
	})
	show.close()
	if report == nil && id != "" && !req.DryRun && a.again(ctx, new(outage), err) {
		var lost error
		if report, lost = a.findMigration(ctx, c, id, true); lost == nil {
			return report, nil
		}
	}
	switch {
	case report != nil:
		return report, nil
	case req.DryRun && err != nil:
		return nil, err
	case ctx.Err() != nil:
		return nil, goesOn("interrupted", req.Pod, id)
	case err == nil:
		return nil, goesOn("the controller ended the call without a report", req.Pod, id)
	case id != "" && !connect.IsWireError(err):
		return nil, goesOn("lost the connection to the controller: "+rootCause(err), req.Pod, id)
	}
	return nil, err
}

// goesOn is a call that ended before its migration.
func goesOn(why, pod, id string) error {
	if id == "" {
		return &failure{status: statusFailed, message: fmt.Sprintf("%s; if a migration of %s had begun, it goes on", why, pod),
			remedies: []string{fmt.Sprintf("look for it with `drydock migration ls --pod %s`", pod)}}
	}
	return &failure{status: statusFailed, message: fmt.Sprintf("%s; migration %s of %s goes on", why, id, pod),
		remedies: []string{fmt.Sprintf("watch it with `drydock migration show %s --watch`", id)}}
}

// outcomeError is nil for a migration that did what was asked.
func outcomeError(r *v1.MigrationReport) error {
	f := &failure{status: statusFailed, refusals: r.Refusals}
	why := r.Error
	if why == "" {
		why = "no reason was recorded"
	}
	switch {
	case r.Outcome == v1.MigrationOutcome_MIGRATION_OUTCOME_REFUSED,
		r.DryRun && len(r.Refusals) > 0:
		f.status = statusRefused
		f.message = fmt.Sprintf("%s cannot move from %s to %s", r.Pod, r.From, r.To)
		if len(r.Refusals) == 0 {
			f.message += ": " + why
		}
		return f
	case r.DryRun, r.Outcome == v1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED:
		return nil
	case r.Outcome == v1.MigrationOutcome_MIGRATION_OUTCOME_ABORTED:
		f.message = fmt.Sprintf("%s stays on %s: %s", r.Pod, r.From, why)
	case r.Outcome == v1.MigrationOutcome_MIGRATION_OUTCOME_HANDED_BACK:
		f.message = fmt.Sprintf("%s was handed back and stays on %s: %s", r.Pod, r.From, why)
	case r.Outcome == v1.MigrationOutcome_MIGRATION_OUTCOME_LOST:
		f.message = fmt.Sprintf("%s was lost: %s", r.Pod, why)
		f.remedies = []string{fmt.Sprintf("see `drydock pod inspect %s` for what its restart policy does", r.Pod)}
		return f
	default:
		return errors.New("the controller reported an outcome that this program does not know; see `drydock version`")
	}
	f.remedies = []string{fmt.Sprintf("see `drydock migration show %s`", r.Id)}
	return f
}

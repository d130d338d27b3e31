package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
)

func newHostDrain(a *app) *cobra.Command {
	req := &v1.DrainHostRequest{}
	cmd := &cobra.Command{
		Use:               "drain HOST",
		Short:             "Move every pod off a host",
		Args:              exactly("HOST"),
		ValidArgsFunction: a.completeArgs(hostNames),
	}
	cmd.Flags().Int32Var(&req.Parallel, "parallel", 0, "pods that move at a time; 0 is the controller's default")
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "only show where the pods would go")
	mode := a.modeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if req.Mode, err = mode(); err != nil {
			return err
		}
		if req.Parallel < 0 {
			return misuse(cmd, "parallel %d: must be 1 or more", req.Parallel)
		}
		req.Name = args[0]
		c, err := a.connect()
		if err != nil {
			return err
		}
		d := drain{host: req.Name, dryRun: req.DryRun}
		if err := d.run(cmd.Context(), a, c, req); err != nil {
			return err
		}
		if err := a.print(d.document(), d.table); err != nil {
			return err
		}
		return d.err()
	}
	return cmd
}

// drain is what is known of one drain.
type drain struct {
	host    string
	dryRun  bool
	reports []*v1.MigrationReport
	summary *v1.DrainSummary
}

func (d *drain) run(ctx context.Context, a *app, c *client, req *v1.DrainHostRequest) error {
	show := a.newProgress()
	defer show.close()
	err := follow(ctx, c.DrainHost, req, func(m *v1.DrainHostResponse) error {
		switch e := m.Event.(type) {
		case *v1.DrainHostResponse_Progress:
			show.update(cmp.Or(e.Progress.Pod, e.Progress.Migration), e.Progress)
		case *v1.DrainHostResponse_Report:
			d.reports = append(d.reports, e.Report)
		case *v1.DrainHostResponse_Summary:
			d.summary = e.Summary
		}
		return nil
	})
	switch {
	case d.summary != nil:
		return nil
	case ctx.Err() != nil:
		return &failure{status: statusFailed,
			message: fmt.Sprintf("interrupted; migrations off %s that had begun go on, and no pod comes to it", req.Name),
			remedies: []string{"see them with `drydock migration ls`",
				fmt.Sprintf("go on with `drydock host drain %[1]s`, or let pods come again with `drydock host resume %[1]s`", req.Name)}}
	case err == nil:
		return fmt.Errorf("the controller ended the drain of %s without a summary; see `drydock host inspect %[1]s`", req.Name)
	}
	return err
}

func (d *drain) document() any {
	return map[string]any{"migrations": messages(d.reports), "summary": message{d.summary}}
}

func (d *drain) table(t *table) {
	if len(d.reports) > 0 {
		t.row("POD", "TO", "MODE", "OUTCOME", "FREEZE", "BYTES", "ERROR")
	}
	for _, r := range d.reports {
		freeze, bytes := r.Freeze, r.Bytes
		if d.dryRun {
			freeze, bytes = r.GetEstimate().GetFreeze(), r.GetEstimate().GetMemoryBytes()+r.GetEstimate().GetFileBytes()
		}
		t.row(r.Pod, r.To, modeWord(r.Mode), outcomeWord(r), took(freeze), size(bytes), r.Error)
	}
	verb := "moved off"
	if d.dryRun {
		verb = "would move off"
	}
	t.line("%s %s %s, %d left there", plural(int(d.summary.Moved), "pod"), verb, d.host, d.summary.Remaining)
}

// err is nil where every pod has gone, or could.
func (d *drain) err() error {
	f := &failure{status: statusFailed, refusals: d.summary.Refusals}
	switch {
	case len(f.refusals) > 0:
		f.status = statusRefused
		f.message = fmt.Sprintf("host %s cannot be drained", d.host)
	case d.summary.Remaining > 0 && !d.dryRun:
		f.message = fmt.Sprintf("host %s still holds %s", d.host, plural(int(d.summary.Remaining), "pod"))
		f.remedies = []string{fmt.Sprintf("see `drydock host inspect %[1]s`, and repeat `drydock host drain %[1]s`", d.host)}
	default:
		return nil
	}
	return f
}

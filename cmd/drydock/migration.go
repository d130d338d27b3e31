package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
)

const (
	defaultMigrations = 20
	watchEvery        = 500 * time.Millisecond
)

func newMigrationCommand(a *app) *cobra.Command {
	return newGroup("migration", "Migrations, running and past", newMigrationList(a), newMigrationShow(a))
}

func newMigrationList(a *app) *cobra.Command {
	req := &v1.ListMigrationsRequest{}
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List migrations, the latest first",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if req.Limit < 0 {
				return misuse(cmd, "limit %d: must be 0 for all, or more", req.Limit)
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.ListMigrations, req)
			if err != nil {
				return err
			}
			return a.print(messages(res.Migrations), func(t *table) {
				t.row("ID", "POD", "FROM", "TO", "MODE", "OUTCOME", "FREEZE", "BYTES", "AGE")
				for _, m := range res.Migrations {
					t.row(m.Id, m.Pod, m.From, m.To, modeWord(m.Mode), outcomeWord(m), took(m.Freeze), size(m.Bytes), a.age(m.Started))
				}
			})
		},
	}
	cmd.Flags().StringVar(&req.Pod, "pod", "", "only those of this pod")
	cmd.Flags().Int32Var(&req.Limit, "limit", defaultMigrations, "how many at most; 0 is all")
	a.complete(cmd, "pod", podNames)
	return cmd
}

func newMigrationShow(a *app) *cobra.Command {
	watch := false
	cmd := &cobra.Command{
		Use:               "show ID",
		Short:             "Show the report of a migration, with the time of every step",
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeArgs(migrationIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			report, err := a.findMigration(cmd.Context(), c, args[0], watch)
			if err != nil {
				return err
			}
			return a.print(message{report}, func(t *table) { a.migrationTable(t, report, true) })
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "wait until it has ended, showing its steps")
	return cmd
}

// findMigration gets a report; where watch is set, the one of the ended migration.
func (a *app) findMigration(ctx context.Context, c *client, id string, watch bool) (*v1.MigrationReport, error) {
	show := a.newProgress()
	defer show.close()
	var silent outage
	for {
		res, err := ask(ctx, c, c.GetMigration, &v1.GetMigrationRequest{Id: id})
		if watch && a.again(ctx, &silent, err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r := res.Migration
		silent = outage{}
		if !watch || r.Finished != nil {
			return r, nil
		}
		if n := len(r.Steps); n > 0 {
			show.update(r.Pod, &v1.MigrationProgress{Step: r.Steps[n-1].Name, Bytes: r.Bytes})
		}
		select {
		case <-ctx.Done():
			return nil, goesOn("interrupted", r.Pod, id)
		case <-time.After(watchEvery):
		}
	}
}

// whyFields say why a migration came to nothing.
func whyFields(t *table, r *v1.MigrationReport) {
	if len(r.Refusals) == 0 {
		t.field("Error", r.Error)
		return
	}
	for _, refusal := range r.Refusals {
		t.field("Refused", refusal.Reason)
		t.field("Remedy", refusal.Remedy)
	}
}

// migrationTable shows a report; with why it failed, unless that is said on stderr.
func (a *app) migrationTable(t *table, r *v1.MigrationReport, why bool) {
	t.field("Migration", r.Id)
	t.field("Pod", r.Pod)
	t.field("From", r.From)
	t.field("To", r.To)
	mode := modeWord(r.Mode)
	if r.ModeReason != "" {
		mode += " (" + r.ModeReason + ")"
	}
	t.field("Mode", mode)
	t.field("Outcome", outcomeWord(r))
	if why {
		whyFields(t, r)
	}
	t.field("Started", moment(r.Started))
	if r.Started != nil && r.Finished != nil {
		t.field("Took", duration(r.Finished.AsTime().Sub(r.Started.AsTime())))
	}
	t.field("Freeze", took(r.Freeze))
	t.field("Bytes", size(r.Bytes))
	if len(r.Translated) > 0 {
		t.field("Translated", strings.Join(r.Translated, ", "))
	}
	if r.FramesHeld > 0 {
		t.field("Held", plural(int(r.FramesHeld), "frame"))
	}
	if e := r.Estimate; e != nil && r.DryRun {
		estimateTable(t, e)
	}
	if len(r.Steps) > 0 {
		t.section("", "STEP", "TOOK", "BYTES", "NOTE")
	}
	for _, s := range r.Steps {
		t.row(s.Name, took(s.Took), size(s.Bytes), stepNote(s))
		for _, p := range s.Parts {
			t.row("  "+p.Name, took(p.Took), blank, blank)
		}
	}
}

func estimateTable(t *table, e *v1.Estimate) {
	t.section("Estimate")
	t.row("Memory:", orZero(e.MemoryBytes))
	t.row("Files:", orZero(e.FileBytes))
	t.row("Images:", orZero(e.ImageBytes))
	if e.BandwidthBytesPerSecond > 0 {
		t.row("Bandwidth:", size(e.BandwidthBytesPerSecond)+"/s")
	}
	t.field("Freeze", took(e.Freeze))
	t.field("Time", took(e.Total))
}

func stepNote(s *v1.StepReport) string {
	note := ""
	if s.Frozen {
		note = "frozen"
	}
	for _, more := range []struct {
		is   bool
		text string
	}{{s.Undone, "undone"}, {s.Error != "", "failed"}, {s.Skipped != "", "not needed: " + s.Skipped}} {
		if !more.is {
			continue
		}
		if note != "" {
			note += ", "
		}
		note += more.text
	}
	return note
}

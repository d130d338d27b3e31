package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"
	"sigs.k8s.io/yaml"

	v1 "drydock/api/drydock/v1"
)

func newEventsCommand(a *app) *cobra.Command {
	req := &v1.ListEventsRequest{}
	var since string
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show who changed what, when, why, and what became of it",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if since != "" {
				if req.Since, err = a.momentOf(since); err != nil {
					return misuse(cmd, "since %q: %v", since, err)
				}
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			if req.Watch {
				return follow(cmd.Context(), c.ListEvents, req, func(m *v1.ListEventsResponse) error { return a.printEvent(m.Event) })
			}
			var events []*v1.Event
			err = follow(cmd.Context(), c.ListEvents, req, func(m *v1.ListEventsResponse) error {
				events = append(events, m.Event)
				return nil
			})
			if err != nil {
				return err
			}
			return a.print(messages(events), func(t *table) {
				t.row("TIME", "WHO", "WHAT", "OBJECT", "OUTCOME", "WHY", "DETAIL")
				for _, e := range events {
					t.row(moment(e.Time), e.Actor, e.Verb, e.Object, e.Outcome, e.Reason, e.Detail)
				}
			})
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "oldest to show: a duration such as 24h, or a time such as 2026-01-31T22:00:00Z")
	cmd.Flags().StringVar(&req.Object, "object", "", "only what was done to this: a name, or kind and name such as \"pod web\"")
	cmd.Flags().BoolVar(&req.Watch, "watch", false, "go on with what is recorded from now on; JSON and YAML are one document for each event")
	return cmd
}

// momentOf reads how long ago, or when.
func (a *app) momentOf(text string) (*timestamppb.Timestamp, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago > 0 {
		return timestamppb.New(a.now().Add(-ago)), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, fmt.Errorf("neither a duration such as 24h nor a time such as 2026-01-31T22:00:00Z")
	}
	return timestamppb.New(at), nil
}

// printEvent shows one event as soon as it is known.
func (a *app) printEvent(e *v1.Event) error {
	if a.settings.Output == "table" {
		line := fmt.Sprintf("%s  %s  %s %s: %s", moment(e.Time), e.Actor, e.Verb, e.Object, e.Outcome)
		if e.Reason != "" {
			line += "; because: " + e.Reason
		}
		if e.Detail != "" {
			line += "; " + e.Detail
		}
		_, err := fmt.Fprintln(a.stdout, line)
		return err
	}
	out, err := json.Marshal(message{e})
	if err == nil && a.settings.Output == "yaml" {
		out, err = yaml.JSONToYAML(out)
		out = append([]byte("---\n"), out...)
	}
	if err != nil {
		return fmt.Errorf("encode the output: %w", err)
	}
	if a.settings.Output == "json" {
		out = append(out, '\n')
	}
	_, err = a.stdout.Write(out)
	return err
}

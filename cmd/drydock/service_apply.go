package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
	"drydock/shim/record"
)

func newServiceApply(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "apply FILE",
		Short: "Check an upgrade record, and put it in the place of the one that the service has",
		Args:  exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			request, err := readRecord(cmd, args[0])
			if err != nil {
				return err
			}
			res, err := wait(cmd.Context(), c.ApplyService, request)
			if err != nil {
				return err
			}
			return a.print(message{res.Service}, func(t *table) {
				action := "applied"
				if res.Replaced {
					action = "replaced"
				}
				t.line("service %s %s: versions %s", res.Service.Name, action, strings.Join(res.Service.Versions, ", "))
			})
		},
	}
}

// readRecord checks a record before it is sent, with the files beside it that it names.
func readRecord(cmd *cobra.Command, file string) (*v1.ApplyServiceRequest, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, &failure{status: statusMisuse, message: fmt.Sprintf("upgrade record %s: %s", file, rootCause(err))}
	}
	r, err := checkedRecord(cmd.Context(), file)
	if err != nil {
		return nil, recordFault(file, err)
	}
	defer r.Close()
	request := &v1.ApplyServiceRequest{Name: r.Service, Text: text, File: filepath.Base(file), Files: map[string][]byte{}}
	for _, name := range filesOf(r) {
		if request.Files[name], err = os.ReadFile(filepath.Join(filepath.Dir(file), name)); err != nil {
			return nil, fmt.Errorf("beside upgrade record %s: %w", file, err)
		}
	}
	return request, nil
}

// filesOf are the files that a record names.
func filesOf(r *record.Record) []string {
	var names []string
	for _, name := range r.Descriptors {
		names = append(names, name)
	}
	for _, p := range r.Pairs {
		for _, d := range []record.Direction{p.Up.Value, p.Down.Value} {
			if d.Module != nil {
				names = append(names, d.Module.File)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func newServiceList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List services, and how many pods serve which version",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.ListServices, &v1.ListServicesRequest{})
			if err != nil {
				return err
			}
			return a.print(messages(res.Services), func(t *table) {
				t.row("SERVICE", "VERSIONS", "PODS", "UPGRADE", "APPLIED BY", "AGE")
				for _, s := range res.Services {
					t.row(s.Name, strings.Join(s.Versions, " "), runningOf(s), s.Upgrade, s.AppliedBy, a.age(s.Applied))
				}
			})
		},
	}
}

// runningOf says how many pods serve which version, in the order of the versions.
func runningOf(s *v1.Service) string {
	var parts []string
	for _, version := range s.Versions {
		if n := s.Running[version]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d of %s", n, version))
		}
	}
	return strings.Join(parts, ", ")
}

func newServiceShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "show NAME",
		Short:             "Show what runs of a service in which version since when, and who needs which translator",
		Args:              exactly("NAME"),
		ValidArgsFunction: a.completeArgs(serviceNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.GetService, &v1.GetServiceRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return a.print(message{res.Service}, func(t *table) { a.serviceTables(t, res.Service) })
		},
	}
}

func (a *app) serviceTables(t *table, s *v1.Service) {
	t.field("Service", s.Name)
	t.field("Versions", strings.Join(s.Versions, " "))
	t.field("Applied", joinWords(moment(s.Applied), "by "+s.AppliedBy))
	t.field("Upgrade", s.Upgrade)
	t.field("Flags", strings.Join(s.Flags, " "))
	if len(s.Pods) > 0 {
		t.section("", "POD", "HOST", "VERSION", "SINCE", "PHASE", "IMAGE")
	}
	for _, p := range s.Pods {
		t.row(p.Pod, p.Host, p.Version, moment(p.Since), word(p.Phase.String(), "POD_PHASE_"), p.Image)
	}
	gatewayTables(t, s.Gateway)
	if len(s.Clients) > 0 {
		t.section("", "CLIENT", "HOST", "SPEAKS", "ADDRESS")
	}
	for _, client := range s.Clients {
		t.row(client.Pod, client.Host, client.Version, client.Address)
	}
	if len(s.Translators) > 0 {
		t.section("", "TRANSLATOR", "FOR CLIENTS", "AT PODS")
	}
	for _, one := range s.Translators {
		t.row(one.From+" > "+one.To, strings.Join(one.Clients, " "), strings.Join(one.Servers, " "))
	}
}

func gatewayTables(t *table, g *v1.ServiceGateway) {
	if g == nil {
		return
	}
	t.section("", "GATEWAY", "HOST", "PHASE", "PROBLEM")
	t.row(g.Pod, g.Host, word(g.Phase.String(), "POD_PHASE_"), g.Problem)
	if len(g.Backends) > 0 {
		t.section("", "BACKEND", "SPEAKS", "HEALTHY", "HELD", "CALLS")
	}
	yes := map[bool]string{true: "yes", false: "no"}
	for _, b := range g.Backends {
		t.row(b.Backend.GetName(), b.Backend.GetVersion(), yes[b.Healthy], yes[b.Backend.GetHold()], fmt.Sprint(b.Calls))
	}
}

func newServiceRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "rm NAME",
		Short:             "Forget a service that no pod serves or speaks to",
		Args:              exactly("NAME"),
		ValidArgsFunction: a.completeArgs(serviceNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if _, err := ask(cmd.Context(), c, c.RemoveService, &v1.RemoveServiceRequest{Name: args[0]}); err != nil {
				return err
			}
			return a.done("service", args[0], "removed")
		},
	}
}

func newServiceFlag(a *app) *cobra.Command {
	unset := false
	cmd := &cobra.Command{
		Use:               "flag NAME FLAG",
		Short:             "Set a flag that the schedule of a service's upgrade waits for",
		Args:              exactly("NAME", "FLAG"),
		ValidArgsFunction: a.completeArgs(serviceNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if _, err := ask(cmd.Context(), c, c.SetFlag, &v1.SetFlagRequest{Name: args[0], Flag: args[1], Clear: unset}); err != nil {
				return err
			}
			action := "has the flag " + args[1]
			if unset {
				action = "has the flag " + args[1] + " no more"
			}
			return a.done("service", args[0], action)
		},
	}
	cmd.Flags().BoolVar(&unset, "unset", false, "clear it")
	return cmd
}

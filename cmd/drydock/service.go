package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
	"drydock/internal/strictyaml"
	"drydock/shim/record"
)

func newServiceCommand(a *app) *cobra.Command {
	return newGroup("service", "Services and their upgrade records", newServiceApply(a), newServiceList(a), newServiceShow(a),
		newServiceCheck(a), newServiceUpgrade(a), newServiceFlag(a), newServiceRemove(a))
}

func newServiceCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Find faults in an upgrade record, and run its examples, without a controller",
		Args:  exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(); err != nil {
				return err
			}
			file := args[0]
			if info, err := os.Stat(file); err != nil || info.IsDir() {
				return &failure{status: statusMisuse, message: fmt.Sprintf("upgrade record %s: %s", file, cannotRead(err))}
			}
			r, err := checkedRecord(cmd.Context(), file)
			if err != nil {
				return recordFault(file, err)
			}
			defer r.Close()
			return a.print(checkedOf(file, r), checkedOf(file, r).table)
		},
	}
}

func cannotRead(err error) string {
	if err == nil {
		return "is a directory"
	}
	return rootCause(err)
}

func checkedRecord(ctx context.Context, file string) (*record.Record, error) {
	r, err := record.Load(file)
	if err != nil {
		return nil, err
	}
	if err := r.Check(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// checkRecord is for `config check`.
func checkRecord(path string) error {
	r, err := checkedRecord(context.Background(), path)
	if err != nil {
		return recordFault(path, err)
	}
	return r.Close()
}

// recordFault shows everything that is wrong with a record, each with its place.
func recordFault(file string, err error) error {
	var problems strictyaml.Problems
	if !errors.As(err, &problems) {
		return err
	}
	f := &failure{status: statusRefused, message: fmt.Sprintf("upgrade record %s has %d faults", file, len(problems))}
	if len(problems) == 1 {
		f.message = fmt.Sprintf("upgrade record %s has a fault", file)
	}
	for _, p := range problems {
		reason := p.Reason
		if p.Field != "" {
			reason = p.Field + ": " + reason
		}
		f.refusals = append(f.refusals, &v1.Refusal{Reason: fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, reason), Remedy: p.Remedy})
	}
	return f
}

// checkedService is a record without faults, as `service check` shows it.
type checkedService struct {
	File     string         `json:"file"`
	Service  string         `json:"service"`
	Versions []string       `json:"versions"`
	Examples int            `json:"examples"`
	Chains   []checkedChain `json:"chains"`
}

// checkedChain leads from a client's version to a server's; Through are the versions on the way, with both ends.
type checkedChain struct {
	Client  string   `json:"client"`
	Server  string   `json:"server"`
	Through []string `json:"through"`
}

func checkedOf(file string, r *record.Record) checkedService {
	out := checkedService{File: file, Service: r.Service, Versions: r.Versions}
	for _, p := range r.Pairs {
		out.Examples += len(p.Examples) + len(p.Transcripts)
	}
	for _, client := range r.Versions {
		for _, server := range r.Versions {
			c, err := r.Line.Plan(client, server, nil)
			if err != nil || client == server {
				continue // a record that was parsed has all chains
			}
			through := []string{client}
			for _, step := range c.Steps() {
				through = append(through, step.To)
			}
			out.Chains = append(out.Chains, checkedChain{client, server, through})
		}
	}
	return out
}

func (c checkedService) table(t *table) {
	t.line("%s: no fault found (service %s, %d examples)", c.File, c.Service, c.Examples)
	if len(c.Chains) == 0 {
		return
	}
	t.section("", "CLIENT", "SERVER", "CHAIN")
	for _, one := range c.Chains {
		t.row(one.Client, one.Server, strings.Join(one.Through, " > "))
	}
}

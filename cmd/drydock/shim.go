package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
	"drydock/internal/strictyaml"
	"drydock/shim/process"
)

// shims finds shims: in pods through the controller, or on this machine by their control sockets.
type shims struct {
	app *app
	// dir is where the sockets are; empty for shims in pods.
	dir string
}

func newShimCommand(a *app) *cobra.Command {
	s := &shims{app: a}
	cmd := newGroup("shim", "Shims, in pods and on this machine", newShimLs(s), newShimShow(s), newShimTrace(s), newShimReload(s), newShimServe())
	cmd.PersistentFlags().StringVar(&s.dir, "dir", "", "look at shims on this machine: directory of their control sockets, "+process.Dir)
	return cmd
}

func newShimServe() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Run a shim in front of a server",
		Long: "Run a shim in front of a server until it is told to stop. Where a shim with the same control socket runs, its listening sockets " +
			"are taken over, and it ends with its last connection.",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := process.Run(cmd.Context(), file, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
			var problems strictyaml.Problems
			if !errors.As(err, &problems) {
				return err
			}
			f := &failure{status: statusRefused, message: fmt.Sprintf("the shim of %s cannot run", file)}
			for _, p := range problems {
				f.refusals = append(f.refusals, &v1.Refusal{
					Reason: fmt.Sprintf("%s:%d:%d: %s: %s", p.File, p.Line, p.Column, p.Field, p.Reason), Remedy: p.Remedy,
				})
			}
			return f
		},
	}
	cmd.Flags().StringVar(&file, "config", "/etc/drydock/shim.yaml", "the shim's configuration")
	return cmd
}

// find is the one shim of a name.
func (s *shims) find(name string) (process.Client, error) {
	all, err := process.Find(s.dir)
	if err != nil {
		return process.Client{}, err
	}
	i := slices.IndexFunc(all, func(c process.Client) bool { return c.Name() == name })
	if i < 0 {
		return process.Client{}, &failure{status: statusMisuse, message: fmt.Sprintf("no shim %q has a control socket in %s", name, s.dir),
			remedies: []string{"see `drydock shim ls`, or name another directory with --dir"}}
	}
	return all[i], nil
}

// ask does what one shim is asked for, within the time of the settings.
func (s *shims) ask(ctx context.Context, name string, work func(context.Context, process.Client) error) error {
	if err := s.app.load(); err != nil {
		return err
	}
	c, err := s.find(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.app.settings.Timeout)
	defer cancel()
	return work(ctx, c)
}

// named is a shim's state with its name, as it is printed.
type named struct {
	Name string `json:"name"`
	process.State
}

func newShimLs(s *shims) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the shims in pods, or with --dir those of this machine",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.dir == "" {
				return s.app.listPodShims(cmd.Context())
			}
			if err := s.app.load(); err != nil {
				return err
			}
			all, err := process.Find(s.dir)
			if err != nil {
				return err
			}
			list := []named{}
			ctx, cancel := context.WithTimeout(cmd.Context(), s.app.settings.Timeout)
			defer cancel()
			for _, c := range all {
				state, err := c.State(ctx)
				if err != nil {
					state.State = "no answer"
				}
				list = append(list, named{c.Name(), state})
			}
			return s.app.print(list, func(t *table) {
				t.row("NAME", "SERVICE", "STATE", "SERVER", "SPEAKS", "LISTENS", "CONNECTIONS")
				for _, one := range list {
					t.row(one.Name, one.Service, one.State.State, one.Server, one.Version, strings.Join(one.Listen, ","), fmt.Sprint(one.Connections))
				}
			})
		},
	}
}

func newShimShow(s *shims) *cobra.Command {
	return &cobra.Command{
		Use:   "show POD",
		Short: "Show a shim: versions, calls between them, and what each translator takes",
		Args:  exactly("POD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if s.dir == "" {
				return s.app.showPodShim(cmd.Context(), args[0])
			}
			return s.ask(cmd.Context(), args[0], func(ctx context.Context, c process.Client) error {
				state, err := c.State(ctx)
				if err != nil {
					return err
				}
				return s.app.print(named{args[0], state}, func(t *table) { showShim(t, args[0], state) })
			})
		},
	}
}

func showShim(t *table, name string, s process.State) {
	t.field("Name", name)
	t.field("Service", s.Service+" ("+strings.Join(s.Versions, ", ")+")")
	t.field("State", fmt.Sprintf("%s, process %d, drydock %s", s.State, s.PID, s.Program))
	t.field("Server", s.Server+" speaks "+s.Version)
	t.field("Listens", strings.Join(s.Listen, ", "))
	t.field("Connections", fmt.Sprintf("%d now, %d spliced ever", s.Connections, s.Spliced))
	t.field("Changes", fmt.Sprint(s.Changes))
	if s.Unknown > 0 {
		t.field("Unknown version", fmt.Sprintf("%d calls refused", s.Unknown))
	}
	if s.Faults > 0 {
		t.field("Module faults", fmt.Sprintf("%d connections ended", s.Faults))
	}
	if len(s.Backends) > 1 {
		t.section("", "BACKEND", "ADDRESS", "SPEAKS", "HEALTHY", "CALLS")
		for _, b := range s.Backends {
			t.row(b.Name, b.Address, b.Version, map[bool]string{true: "yes", false: "no"}[b.Healthy], fmt.Sprint(b.Calls))
		}
	}
	if len(s.Calls) > 0 {
		t.section("", "CLIENT", "SERVER", "TRANSLATED", "PASSED", "DISALLOWED", "UNTRANSLATABLE")
		for _, n := range s.Calls {
			t.row(n.Client, n.Server, fmt.Sprint(n.Translated), fmt.Sprint(n.Passed), fmt.Sprint(n.Disallowed), fmt.Sprint(n.Untranslatable))
		}
	}
	if len(s.Hops) > 0 {
		t.section("", "TRANSLATOR", "TIMES", "MEAN")
		for _, h := range s.Hops {
			t.row(h.From+" > "+h.To, fmt.Sprint(h.Times), h.Mean.Round(100*time.Nanosecond).String())
		}
	}
}

func newShimReload(s *shims) *cobra.Command {
	return &cobra.Command{
		Use:   "reload NAME --dir DIR",
		Short: "Have a shim of this machine take up its changed configuration and record, without a pause",
		Args:  exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if s.dir == "" {
				return misuse(cmd, "a shim in a pod is changed with `drydock pod shim`; --dir names where those of this machine are")
			}
			return s.ask(cmd.Context(), args[0], func(ctx context.Context, c process.Client) error {
				err := c.Reload(ctx)
				var refused *process.RefusedError
				if errors.As(err, &refused) && refused.Status == http.StatusConflict {
					return &failure{status: statusRefused, message: fmt.Sprintf("shim %s goes on as it was:\n%s", args[0], refused.Text)}
				}
				if err != nil {
					return err
				}
				return s.app.done("shim", args[0], "reloaded")
			})
		},
	}
}

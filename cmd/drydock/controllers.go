package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "drydock/api/drydock/v1"
)

func newControllerList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the controllers, and which one leads",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.ListControllers, &v1.ListControllersRequest{})
			if err != nil {
				return err
			}
			return a.print(messages(res.Controllers), func(t *table) {
				t.row("CONTROLLER", "STATE", "ADDRESS", "STORE")
				for _, other := range res.Controllers {
					t.row(other.Name, other.State, other.Address, other.Peer)
				}
			})
		},
	}
}

func newControllerJoin(a *app) *cobra.Command {
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "join NAME",
		Short: "Make a one-time token with which a new controller joins the store",
		Long: `Make a one-time token with which a new controller joins the store.

Whoever has the token gets the CA's key with it: it is worth as much as all of Drydock. Hand it over safely, and soon.`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if ttl <= 0 {
				return misuse(cmd, "time to live %s: must be longer than nothing", ttl)
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.CreateControllerToken, &v1.CreateControllerTokenRequest{Name: args[0], Ttl: durationpb.New(ttl)})
			if err != nil {
				return err
			}
			return a.print(message{res}, func(t *table) { a.controllerTable(t, args[0], res) })
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", defaultTokenTTL, "how long the token is good")
	return cmd
}

// controllerTable says what to do on the new controller's machine.
func (a *app) controllerTable(t *table, name string, res *v1.CreateControllerTokenResponse) {
	server := a.target.Server
	if !strings.HasPrefix(server, "https://") {
		server = "https://ADDRESS-OF-THIS-CONTROLLER:7440"
	}
	own := "ADDRESS-OF-" + strings.ToUpper(name)
	t.line("%s", res.Token)
	t.line("")
	t.line("Good once, for controller %s, until %s. On its machine, as root:", name, moment(res.Expires))
	t.line("")
	t.line("  mkdir -p /etc/drydock && (umask 077; echo %s >/etc/drydock/controller-token)", res.Token)
	t.line("")
	t.line("and in its /etc/drydock/controller.yaml, the rest as in that of this controller:")
	t.line("")
	t.line("  name: %s\n  listen: %s:7440\n  etcd: {peer: %s:7442}\n  join: {controller: [%s]}", name, own, own, server)
}

func newControllerRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Take a controller that is gone for good out of the store",
		Args:  exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if _, err := ask(cmd.Context(), c, c.RemoveController, &v1.RemoveControllerRequest{Name: args[0]}); err != nil {
				return err
			}
			return a.done("controller", args[0], "removed")
		},
	}
}

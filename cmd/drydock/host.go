package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "drydock/api/drydock/v1"
)

const defaultTokenTTL = time.Hour

func newHostCommand(a *app) *cobra.Command {
	return newGroup("host", "Hosts of the pool", newHostList(a), newHostInspect(a), newHostJoin(a), newHostDrain(a),
		newHostResume(a), newHostDoctor(a), newHostConfirmDead(a), newHostRemove(a))
}

func newHostList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the hosts",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.ListHosts, &v1.ListHostsRequest{})
			if err != nil {
				return err
			}
			return a.print(messages(res.Hosts), func(t *table) { a.hostRows(t, res.Hosts) })
		},
	}
}

func (a *app) hostRows(t *table, hosts []*v1.Host) {
	t.row("NAME", "STATE", "PODS", "KERNEL", "CRIU", "NETWORK", "MEMORY FREE", "SEEN", "MESSAGE")
	for _, h := range hosts {
		i := h.GetInfo()
		t.row(h.Name, h.State, fmt.Sprint(len(h.Pods)), i.GetKernel(), i.GetCriuVersion(), i.GetNetwork(),
			size(i.GetMemoryAvailableBytes()), a.age(h.LastSeen), h.Message)
	}
}

func newHostInspect(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "inspect HOST",
		Short:             "Show what a host is, can do, and holds",
		Args:              exactly("HOST"),
		ValidArgsFunction: a.completeArgs(hostNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.GetHost, &v1.GetHostRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return a.print(message{res.Host}, func(t *table) { a.hostTable(t, res.Host) })
		},
	}
}

// hostTable shows everything about one host.
func (a *app) hostTable(t *table, h *v1.Host) {
	t.field("Name", h.Name)
	t.field("State", h.State)
	t.field("Message", h.Message)
	t.field("Address", h.Address)
	t.field("Boot ID", h.BootId)
	if h.LastSeen != nil {
		t.field("Seen", a.age(h.LastSeen)+" ago")
	}
	t.field("Pods", strings.Join(h.Pods, ", "))
	i := h.Info
	if i == nil {
		return
	}
	t.field("System", joinWords(i.Os, i.Arch))
	t.field("Kernel", i.Kernel)
	t.field("Up", took(i.Uptime))
	if i.Simulated {
		t.field("Reboots", "simulated")
	}
	t.field("CPU", joinWords(fmt.Sprint(i.Cpus), "x", i.CpuModel))
	t.field("Memory", fmt.Sprintf("%s, %s free", orZero(i.MemoryBytes), orZero(i.MemoryAvailableBytes)))
	t.field("Disk", orZero(i.DiskAvailableBytes)+" free")
	t.field("Cgroups", fmt.Sprintf("v%d", i.CgroupVersion))
	t.field("Network", joinWords(i.Network, parenthesised(i.NetworkReason)))
	t.field("Agent", joinWords(i.AgentVersion, fmt.Sprintf("(API %d)", i.Api)))
	t.field("containerd", i.ContainerdVersion)
	t.field("runc", i.RuncVersion)
	t.field("CRIU", i.CriuVersion)
	for _, name := range slices.Sorted(maps.Keys(i.CriuFeatures)) {
		t.row("  "+name+":", yesNo(i.CriuFeatures[name]))
	}
	if len(i.Problems) > 0 {
		t.section("Problems", "REASON", "REMEDY")
	}
	for _, p := range i.Problems {
		t.row(p.Reason, p.Remedy)
	}
	if len(h.Links) > 0 {
		t.section("Network to other hosts", "HOST", "STATE", "TRIED", "REASON", "REMEDY")
	}
	for _, l := range h.Links {
		t.row(l.Peer, l.State, a.ageOrNever(l.Tried), l.Reason, l.Remedy)
	}
}

func (a *app) ageOrNever(at *timestamppb.Timestamp) string {
	if at == nil {
		return "never"
	}
	return a.age(at) + " ago"
}

func joinWords(words ...string) string {
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
}

func parenthesised(text string) string {
	if text == "" {
		return ""
	}
	return "(" + text + ")"
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func newHostJoin(a *app) *cobra.Command {
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "join HOST",
		Short: "Make a one-time token with which a new host joins",
		Args:  exactly("HOST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if ttl <= 0 {
				return misuse(cmd, "time to live %s: must be longer than nothing", ttl)
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.CreateJoinToken,
				&v1.CreateJoinTokenRequest{Host: args[0], Ttl: durationpb.New(ttl)})
			if err != nil {
				return err
			}
			return a.print(message{res}, func(t *table) { a.joinTable(t, args[0], res) })
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", defaultTokenTTL, "how long the token is good")
	return cmd
}

// joinTable says what to do on the new host.
func (a *app) joinTable(t *table, host string, res *v1.CreateJoinTokenResponse) {
	t.line("%s", res.Token)
	t.line("")
	t.line("Good once, for host %s, until %s. On that host, as root:", host, moment(res.Expires))
	t.line("")
	t.line("  mkdir -p /etc/drydock && (umask 077; echo %s >/etc/drydock/join-token)", res.Token)
	t.line("  cat >/etc/drydock/agent.yaml <<'EOF'")
	t.line("%sEOF", joinConfig(host, a.target.Server))
	t.line("  drydock agent --config /etc/drydock/agent.yaml")
}

// joinConfig is the least that an agent has to be told. A controller that is reached over a socket here is reached by an
// address from there, which only the operator knows.
func joinConfig(host, server string) string {
	if !strings.HasPrefix(server, "https://") {
		server = "https://ADDRESS-OF-CONTROLLER:7440"
	}
	return "name: " + host + "\nlisten: ADDRESS-OF-" + strings.ToUpper(host) + ":7441\ncontroller: [" + server + "]\n"
}

func newHostResume(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "resume HOST",
		Short:             "Let pods come to a drained host again",
		Args:              exactly("HOST"),
		ValidArgsFunction: a.completeArgs(hostNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.ResumeHost, &v1.ResumeHostRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return a.print(message{res.Host}, func(t *table) { t.line("host %s %s", res.Host.Name, res.Host.State) })
		},
	}
}

func newHostDoctor(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "doctor HOST",
		Short:             "Try what moving pods needs on a host",
		Args:              exactly("HOST"),
		ValidArgsFunction: a.completeArgs(hostNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := wait(cmd.Context(), c.DoctorHost, &v1.DoctorHostRequest{Name: args[0]})
			if err != nil {
				return err
			}
			err = a.print(messages(res.Checks), func(t *table) {
				t.row("CHECK", "OK", "DETAIL")
				for _, check := range res.Checks {
					t.row(check.Name, yesNo(check.Ok), check.Detail)
				}
			})
			if err != nil {
				return err
			}
			return doctorError(args[0], res.Checks)
		},
	}
}

// doctorError is nil where every check passed.
func doctorError(host string, checks []*v1.DoctorCheck) error {
	f := &failure{status: statusFailed}
	for _, check := range checks {
		if !check.Ok {
			f.refusals = append(f.refusals, &v1.Refusal{Reason: check.Name + ": " + check.Detail, Remedy: check.Remedy})
		}
	}
	if len(f.refusals) == 0 {
		return nil
	}
	f.message = fmt.Sprintf("host %s fails %d of %s", host, len(f.refusals), plural(len(checks), "check"))
	return f
}

func newHostConfirmDead(a *app) *cobra.Command {
	req := &v1.ConfirmHostDeadRequest{}
	cmd := &cobra.Command{
		Use:   "confirm-dead HOST --boot-id ID",
		Short: "Vouch that a host no longer runs, so that its pods may start elsewhere",
		Long: `Vouch that a host no longer runs, so that its pods may start elsewhere.

Drydock believes it without a check: if the host still runs, its pods run twice. Look at the machine itself first.
The boot ID is in 'drydock host inspect HOST'; the confirmation is void for any other start of the host.`,
		Args:              exactly("HOST"),
		ValidArgsFunction: a.completeArgs(hostNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if req.BootId == "" {
				return misuse(cmd, "confirm-dead needs --boot-id ID, as `drydock host inspect %s` shows it", args[0])
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			req.Name = args[0]
			res, err := ask(cmd.Context(), c, c.ConfirmHostDead, req)
			if err != nil {
				return err
			}
			return a.print(message{res}, func(t *table) {
				t.line("host %s confirmed dead; %s held there: %s", req.Name, plural(len(res.Pods), "pod"),
					strings.Join(append(res.Pods, "-")[:max(1, len(res.Pods))], ", "))
			})
		},
	}
	cmd.Flags().StringVar(&req.BootId, "boot-id", "", "boot ID that is dead")
	return cmd
}

func newHostRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "rm HOST",
		Short:             "Take a host that holds no pod out of the pool",
		Args:              exactly("HOST"),
		ValidArgsFunction: a.completeArgs(hostNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if _, err := ask(cmd.Context(), c, c.RemoveHost, &v1.RemoveHostRequest{Name: args[0]}); err != nil {
				return err
			}
			return a.done("host", args[0], "removed")
		},
	}
}

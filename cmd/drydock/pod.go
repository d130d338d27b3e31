package main

import (
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "drydock/api/drydock/v1"
)

func newPodCommand(a *app) *cobra.Command {
	return newGroup("pod", "Pods: what runs, and where", newPodRun(a), newPodList(a), newPodInspect(a), newPodExec(a),
		newPodLogs(a), newPodStart(a), newPodStop(a), newPodRemove(a), newPodShim(a))
}

func newPodList(a *app) *cobra.Command {
	req := &v1.ListPodsRequest{}
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the pods",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.ListPods, req)
			if err != nil {
				return err
			}
			return a.print(messages(res.Pods), func(t *table) { a.podRows(t, res.Pods) })
		},
	}
	cmd.Flags().StringVar(&req.Host, "host", "", "only those on this host")
	a.complete(cmd, "host", hostNames)
	return cmd
}

func newPodInspect(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "inspect POD",
		Short:             "Show what a pod is and does",
		Args:              exactly("POD"),
		ValidArgsFunction: a.completeArgs(podNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.GetPod, &v1.GetPodRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return a.print(message{res.Pod}, func(t *table) { a.podTable(t, res.Pod) })
		},
	}
}

func newPodLogs(a *app) *cobra.Command {
	req := &v1.GetPodLogsRequest{}
	cmd := &cobra.Command{
		Use:               "logs POD",
		Short:             "Print what a pod wrote",
		Args:              exactly("POD"),
		ValidArgsFunction: a.completeArgs(podNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if req.Tail < 0 {
				return misuse(cmd, "tail %d: must be 0 for all lines, or more", req.Tail)
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			req.Pod = args[0]
			return follow(cmd.Context(), c.GetPodLogs, req, func(m *v1.GetPodLogsResponse) error {
				_, err := a.stdout.Write(m.Data)
				return err
			})
		},
	}
	cmd.Flags().StringVarP(&req.Container, "container", "c", "", "container, where the pod has several")
	cmd.Flags().BoolVarP(&req.Follow, "follow", "f", false, "go on with what is written from now on")
	cmd.Flags().Int32Var(&req.Tail, "tail", 0, "lines from the end; 0 is all")
	return cmd
}

func newPodStart(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "start POD",
		Short:             "Start a stopped pod",
		Args:              exactly("POD"),
		ValidArgsFunction: a.completeArgs(podNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := wait(cmd.Context(), c.StartPod, &v1.StartPodRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return a.printPodLine(res.Pod)
		},
	}
}

func newPodStop(a *app) *cobra.Command {
	req := &v1.StopPodRequest{}
	var grace time.Duration
	cmd := &cobra.Command{
		Use:               "stop POD",
		Short:             "Stop a pod; its volumes and writable layers stay",
		Args:              exactly("POD"),
		ValidArgsFunction: a.completeArgs(podNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if grace < 0 {
				return misuse(cmd, "grace %s: must not be negative", grace)
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			if req.Name = args[0]; cmd.Flags().Changed("grace") {
				req.Grace = durationpb.New(grace)
			}
			res, err := wait(cmd.Context(), c.StopPod, req)
			if err != nil {
				return err
			}
			return a.printPodLine(res.Pod)
		},
	}
	cmd.Flags().DurationVar(&grace, "grace", 0, "time to end by itself before it is killed; without it the pod's own")
	return cmd
}

func newPodRemove(a *app) *cobra.Command {
	req := &v1.RemovePodRequest{}
	cmd := &cobra.Command{
		Use:               "rm POD",
		Short:             "Remove a stopped pod with its local volumes",
		Args:              exactly("POD"),
		ValidArgsFunction: a.completeArgs(podNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			req.Name = args[0]
			if _, err := wait(cmd.Context(), c.RemovePod, req); err != nil {
				return err
			}
			return a.done("pod", req.Name, "removed")
		},
	}
	cmd.Flags().BoolVar(&req.Force, "force", false, "stop it first where it runs")
	return cmd
}

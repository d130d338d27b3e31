package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	v1 "drydock/api/drydock/v1"
	"drydock/pods/manifest"
)

func newPodRun(a *app) *cobra.Command {
	flags := manifest.Flags{}
	file, host := "", ""
	cmd := &cobra.Command{
		Use:   "run NAME --image REF [-- ARGS...] | run -f FILE",
		Short: "Run a pod, described by flags or by a Kubernetes Pod manifest",
	}
	f := cmd.Flags()
	addPodFlags(f, &flags)
	f.StringVarP(&file, "file", "f", "", "manifest, instead of NAME and the other flags; - is stdin")
	f.StringVar(&host, "host", "", "host to run it on; without it the controller chooses")
	a.complete(cmd, "host", hostNames)
	a.complete(cmd, "restart", fixed("always", "on-failure", "never"))
	a.complete(cmd, "affinity", hostNames)
	a.complete(cmd, "on-host-lost", fixed("restart", "wait"))
	cmd.Args = func(c *cobra.Command, args []string) error { return podRunArgs(c, args, file) }
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var spec *v1.PodSpec
		var err error
		if file != "" {
			spec, err = a.readManifest(file)
		} else {
			flags.Name, flags.Args = args[0], args[1:]
			spec, err = manifest.FromFlags(flags)
		}
		if err != nil {
			return podFault(err)
		}
		return a.runPod(cmd, &v1.RunPodRequest{Spec: spec, Host: host})
	}
	return cmd
}

// addPodFlags gives f what describes a pod.
func addPodFlags(f *pflag.FlagSet, to *manifest.Flags) {
	f.StringVar(&to.Image, "image", "", "image of the pod's one container")
	f.StringArrayVarP(&to.Volumes, "volume", "v", nil, "NAME:/path[:ro], or shared=/host/path:/path[:ro] for what every host has")
	f.StringArrayVarP(&to.Env, "env", "e", nil, "NAME=VALUE")
	f.BoolVar(&to.Command, "command", false, "what follows -- is run instead of the image's entry point, not given to it")
	f.StringVar(&to.CPUs, "cpus", "", "how many CPUs it may use, such as 0.5")
	f.StringVar(&to.Memory, "memory", "", "how much memory it may use, such as 256MiB")
	f.StringVar(&to.User, "user", "", "UID[:GID] that it runs as, instead of the image's")
	f.StringVar(&to.IP, "ip", "", "address, instead of one that the controller hands out")
	f.StringVar(&to.Restart, "restart", "", "when a container ends: always (the default), on-failure or never")
	f.StringVar(&to.Affinity, "affinity", "", "the host that it belongs to: it starts there where that can be, and goes back there once that is patched")
	f.StringVar(&to.OnHostLost, "on-host-lost", "", "when its host is gone: restart (the default) or wait")
	f.BoolVar(&to.AllowPostcopy, "allow-postcopy", false, "let migrations run it before all its memory is there")
	f.BoolVar(&to.Portable, "portable", false, "start it so that it can go to older kernels too (in a mixed pool every pod is)")
	f.StringVar(&to.HealthTCP, "health-tcp", "", "PORT that answers where the pod is healthy")
	f.StringVar(&to.HealthHTTP, "health-http", "", "PORT/path that answers where the pod is healthy")
	f.StringVar(&to.HealthExec, "health-exec", "", "command that succeeds where the pod is healthy")
	f.StringArrayVarP(&to.Labels, "label", "l", nil, "KEY=VALUE")
	f.StringVar(&to.Service, "service", "", "service that the pod serves, with --version")
	f.StringVar(&to.Version, "version", "", "version of the service")
	f.StringVar(&to.Hostname, "hostname", "", "host name inside, instead of NAME")
}

// podRunArgs accepts either NAME with the flags that describe a pod, or a manifest.
func podRunArgs(c *cobra.Command, args []string, file string) error {
	if file == "" {
		dash := c.ArgsLenAtDash()
		switch {
		case len(args) == 0 || dash == 0:
			return misuse(c, "pod run needs NAME and --image, or -f FILE")
		case dash < 0 && len(args) > 1, dash > 1:
			return misuse(c, "pod run does not take %q: arguments follow --", args[1])
		case c.Flags().Changed("command") && len(args) < 2:
			return misuse(c, "--command needs a command after --")
		case !c.Flags().Changed("image"):
			return misuse(c, "pod run needs --image REF")
		}
		return nil
	}
	if len(args) > 0 {
		return misuse(c, "pod run -f does not take %q: the manifest names the pod and its command", args[0])
	}
	var err error
	described := pflag.NewFlagSet("", pflag.ContinueOnError)
	addPodFlags(described, &manifest.Flags{})
	described.VisitAll(func(f *pflag.Flag) {
		if c.Flags().Changed(f.Name) {
			err = misuse(c, "pod run -f does not take --%s: write it into the manifest", f.Name)
		}
	})
	return err
}

func (a *app) readManifest(path string) (*v1.PodSpec, error) {
	data, err := []byte(nil), error(nil)
	if path == "-" {
		data, err = io.ReadAll(a.stdin)
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, &failure{status: statusMisuse, message: fmt.Sprintf("manifest %s: %s", path, rootCause(err))}
	}
	return manifest.Decode(data)
}

// podFault lists everything that is wrong with a pod, each with its remedy.
func podFault(err error) error {
	var f *failure
	var invalid *manifest.InvalidError
	switch {
	case errors.As(err, &f):
		return f
	case !errors.As(err, &invalid):
		return &failure{status: statusMisuse, message: err.Error()}
	}
	f = &failure{status: statusMisuse, message: fmt.Sprintf("pod %q cannot be run as it is described", invalid.Pod)}
	for _, p := range invalid.Problems {
		f.refusals = append(f.refusals, &v1.Refusal{Reason: p.Field + ": " + p.Reason, Remedy: p.Remedy})
	}
	return f
}

// runPod asks for the pod and shows what is done until it runs.
func (a *app) runPod(cmd *cobra.Command, req *v1.RunPodRequest) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	var pod *v1.Pod
	show := a.newProgress()
	err = follow(cmd.Context(), c.RunPod, req, func(m *v1.RunPodResponse) error {
		switch e := m.Event.(type) {
		case *v1.RunPodResponse_Progress:
			show.update(req.Spec.Name, &v1.MigrationProgress{Step: e.Progress})
		case *v1.RunPodResponse_Pod:
			pod = e.Pod
		}
		return nil
	})
	show.close()
	switch {
	case pod != nil:
		return a.printPodLine(pod)
	case cmd.Context().Err() != nil:
		return &failure{status: statusFailed, message: fmt.Sprintf("interrupted; pod %s may be there", req.Spec.Name),
			remedies: []string{fmt.Sprintf("see `drydock pod inspect %[1]s`, and `drydock pod rm --force %[1]s`", req.Spec.Name)}}
	case err == nil:
		return fmt.Errorf("the controller ended the call before pod %s ran; see `drydock pod inspect %[1]s`", req.Spec.Name)
	}
	return err
}

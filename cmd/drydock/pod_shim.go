package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
	"drydock/shim/record"
)

// shimFlags are how a shim is asked for.
type shimFlags struct {
	record, version, traces string
	ports                   []uint
	clients                 map[string]string
	maxBody                 int64
	off, renew              bool
}

func newPodShim(a *app) *cobra.Command {
	f := &shimFlags{}
	cmd := &cobra.Command{
		Use:   "shim POD {--record FILE --version VERSION --port PORT | --off}",
		Short: "Put a shim in front of a pod's program, change it, or take it away",
		Long: "Put a shim in front of a pod's program while the pod runs, have it take up another record, or take it away. Connections that " +
			"exist go on as they are; new ones to the ports come to the shim.",
		Args:              exactly("POD"),
		ValidArgsFunction: a.completeArgs(podNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.off == (f.record != "") {
				return misuse(cmd, "give --record FILE, or --off")
			}
			req := &v1.SetPodShimRequest{Pod: args[0], Renew: f.renew}
			if !f.off {
				if f.version == "" || len(f.ports) == 0 {
					return misuse(cmd, "give --version, what the pod's program speaks, and --port, where clients connect")
				}
				if err := a.load(); err != nil {
					return err
				}
				var err error
				if req.Shim, err = f.shim(cmd.Context()); err != nil {
					return err
				}
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := wait(cmd.Context(), c.SetPodShim, req)
			if err != nil {
				return err
			}
			return a.print(message{res.State}, func(t *table) { podShimTable(t, res.State) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.record, "record", "", "upgrade record of the service, YAML")
	flags.StringVar(&f.version, "version", "", "version that the pod's program speaks")
	flags.UintSliceVar(&f.ports, "port", nil, "port where clients connect; the program's own first")
	flags.StringToStringVar(&f.clients, "client", nil, "versions of clients by their address: 10.77.128.9=v1")
	flags.Int64Var(&f.maxBody, "max-body", 0, "bytes that are translated at most; 0 is 4 MiB")
	flags.StringVar(&f.traces, "traces", "", "OpenTelemetry collector, HOST:PORT")
	flags.BoolVar(&f.off, "off", false, "take the shim away; it goes with its last connection")
	flags.BoolVar(&f.renew, "renew", false, "start the shim anew with the program that the host has now; the one that runs ends with its last connection")
	return cmd
}

// shim is what is asked for, with a record that was found without fault here already.
func (f *shimFlags) shim(ctx context.Context) (*v1.ShimSpec, error) {
	shim := &v1.ShimSpec{Version: f.version, Clients: f.clients, MaxBody: f.maxBody, Traces: f.traces}
	for _, port := range f.ports {
		shim.Ports = append(shim.Ports, uint32(port))
	}
	return shim, addRecord(ctx, shim, f.record)
}

// addRecord reads a record, and what it names beside itself.
func addRecord(ctx context.Context, shim *v1.ShimSpec, file string) error {
	if info, err := os.Stat(file); err != nil || info.IsDir() {
		return &failure{status: statusMisuse, message: fmt.Sprintf("upgrade record %s: %s", file, cannotRead(err))}
	}
	r, err := checkedRecord(ctx, file)
	if err != nil {
		return recordFault(file, err)
	}
	defer r.Close()
	shim.Service = r.Service
	if shim.Record, err = os.ReadFile(file); err != nil {
		return err
	}
	shim.Files = make(map[string][]byte)
	for _, name := range besides(r) {
		if shim.Files[name], err = fs.ReadFile(os.DirFS(filepath.Dir(file)), name); err != nil {
			return errors.Join(fmt.Errorf("upgrade record %s", file), err)
		}
	}
	return nil
}

// besides are the files that a record names.
func besides(r *record.Record) []string {
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

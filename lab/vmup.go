package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// validateVM refuses what virtual machines cannot be, and finds the package that they install.
func (o Options) validateVM() []error {
	var errs []error
	if runtime.GOARCH != "amd64" {
		errs = append(errs, fmt.Errorf("driver %s: only on amd64, not %s", DriverVM, runtime.GOARCH))
	}
	if o.FaultPoints {
		errs = append(errs, fmt.Errorf("driver %s: fault points need a directory that is shared with the hosts: use driver %s", DriverVM, DriverNamespace))
	}
	if len(o.HostServices) != 2 {
		errs = append(errs, fmt.Errorf("driver %s: machines run containerd and the agent, no other services", DriverVM))
	}
	if _, err := o.FindPackage(); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// FindPackage is the package that virtual machines install: Package, or the newest beside Binary.
func (o Options) FindPackage() (string, error) {
	if o.Package != "" {
		_, err := os.Stat(o.Package)
		return o.Package, err
	}
	found, err := filepath.Glob(filepath.Join(filepath.Dir(o.Binary), "drydock_*_"+runtime.GOARCH+".deb"))
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", fmt.Errorf("no package of Drydock in %s: make deb builds it, or name one with --package", filepath.Dir(o.Binary))
	}
	return slices.MaxFunc(found, func(a, b string) int { return changed(a).Compare(changed(b)) }), nil
}

func changed(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// findImages finds what the machines are made from, or makes it.
func (u *up) findImages(ctx context.Context) error {
	u.images = make(map[string]vmImage)
	machines := currentRoot
	if u.opts.Updates.Pending() {
		machines = behindMachine
	}
	for i := range u.opts.Hosts {
		kernel := u.opts.kernelOf(i)
		if _, found := u.images[kernel]; found {
			continue
		}
		image, err := ensureVMImage(ctx, u.opts.Packages, machines, kernel, u.opts.Progress)
		if err != nil {
			return err
		}
		u.images[kernel] = image
	}
	return nil
}

// imagesOf are the machines' images by host; none where the hosts are no machines.
func (u *up) imagesOf(hosts []string) map[string]string {
	if u.opts.Driver != DriverVM {
		return nil
	}
	images := make(map[string]string, len(hosts))
	for i, host := range hosts {
		images[host] = u.images[u.opts.kernelOf(i)].dir
	}
	return images
}

// kernelOf is the suite of a host's kernel; empty for that of the others' packages.
func (o Options) kernelOf(host int) string {
	if host < len(o.Kernels) {
		return o.Kernels[host]
	}
	return ""
}

// startVMs makes every machine, few at a time.
func (u *up) startVMs(ctx context.Context) error {
	deb, err := u.opts.FindPackage()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(vmStarts)
	for _, host := range u.lab.rec.Hosts {
		group.Go(func() error {
			token, err := u.vmToken(ctx, host)
			if err != nil {
				return err
			}
			return u.lab.makeVM(ctx, host, filling{deb, token, u.aptFiles})
		})
	}
	return group.Wait()
}

func (u *up) vmToken(ctx context.Context, host string) (string, error) {
	if u.opts.Join == nil {
		return "", nil
	}
	token, err := u.opts.Join(ctx, u.lab, host)
	if err != nil {
		return "", fmt.Errorf("token for %s: %w", host, err)
	}
	return token, nil
}

// vmExec is Exec for a virtual machine.
func (l *Lab) vmExec(ctx context.Context, node string, argv []string) *exec.Cmd {
	_, err := l.running(node)
	if len(argv) == 0 {
		err = errors.Join(err, errors.New("no command given"))
	}
	cmd, cerr := l.vmCommand(ctx, node, argv...)
	if err = errors.Join(err, cerr); err != nil {
		return &exec.Cmd{Err: err}
	}
	return cmd
}

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"drydock/internal/clictx"
)

// up is one bringing up of a lab.
type up struct {
	opts Options
	lab  *Lab
	// The cached root file systems of hosts, and of the packages' node where there is one.
	root, proxyRoot string
	// The cached virtual machines of DriverVM, by the suite of their kernel.
	images map[string]vmImage
	// aptFiles say where hosts' updates come from.
	aptFiles map[string]string
}

// stage is one step of up, in order. Each leaves enough behind for Down to find what it made, wherever it was cut off.
type stage struct {
	name string
	do   func(context.Context) error
}

func (u *up) stages() []stage {
	return []stage{
		{"root file system", u.findRoot},
		{"files", u.layOut},
		{"machine settings", raiseSysctls},
		{"switch and client", u.makeNetwork},
		{"package proxy", u.startPackages},
		{"controllers", u.startControllers},
		{"hosts", u.startHosts},
		{"ready", u.waitReady},
		{"context", u.writeContext},
	}
}

// Up brings a lab up and returns when its hosts are ready. What is left of an earlier lab of that name is removed
// first, but one that is whole is refused with ErrRunning. If Up fails, or ctx ends, it removes what it made.
func Up(ctx context.Context, opts Options) (*Lab, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	started := time.Now()
	u := &up{opts: opts, lab: &Lab{name: opts.Name}}
	unlock, err := u.lab.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := u.makeRoom(ctx); err != nil {
		return nil, err
	}
	for _, s := range u.stages() {
		if err := s.do(ctx); err != nil {
			err = fmt.Errorf("lab %s: %s: %w", opts.Name, s.name, err)
			return nil, errors.Join(err, u.lab.remove(context.WithoutCancel(ctx)))
		}
		fmt.Fprintf(opts.Progress, "%5.1fs  %s\n", time.Since(started).Seconds(), s.name)
	}
	return u.lab, nil
}

// makeRoom refuses to touch a lab that is whole, and removes the rest of one that is not.
func (u *up) makeRoom(ctx context.Context) error {
	if have, err := Open(u.opts.Name); err == nil {
		status, err := have.Status()
		if err != nil {
			return err
		}
		if status.State == StateUp {
			return fmt.Errorf("lab %s: %w; `drydock lab down --name %s` removes it", u.opts.Name, ErrRunning, u.opts.Name)
		}
	}
	names, err := List()
	if err != nil {
		return err
	}
	for _, n := range names {
		if n == u.opts.Name {
			fmt.Fprintf(u.opts.Progress, "removing what is left of an earlier lab %s\n", n)
			return u.lab.tearDown(ctx)
		}
	}
	return nil
}

func (u *up) findRoot(ctx context.Context) error {
	hosts := newRecipe(u.opts.Packages)
	var err error
	if u.opts.Updates.Pending() {
		hosts.kind = behindRoot
		if u.proxyRoot, err = newProxyRecipe().ensure(ctx, u.opts.Progress); err != nil {
			return err
		}
	}
	if u.root, err = hosts.ensure(ctx, u.opts.Progress); err != nil || u.opts.Driver != DriverVM {
		return err
	}
	return u.findImages(ctx)
}

// layOut writes every file of the lab, the record of it first.
func (u *up) layOut(ctx context.Context) error {
	rec, err := u.opts.record()
	if err != nil {
		return err
	}
	rec.Created, rec.Images = time.Now(), u.imagesOf(rec.Hosts)
	u.lab.rec = rec
	if err := u.makeDirs(ctx); err != nil {
		return err
	}
	if err := u.lab.save(); err != nil {
		return err
	}
	if err := copyFile(u.opts.Binary, u.lab.binary(), 0o755); err != nil {
		return fmt.Errorf("copy the drydock program: %w", err)
	}
	specs, err := u.specs(ctx)
	if err != nil {
		return err
	}
	for _, s := range specs {
		if err := u.lab.writeNode(s, u.opts); err != nil {
			return err
		}
	}
	return nil
}

// specs says what each node is made of and runs.
func (u *up) specs(ctx context.Context) ([]spec, error) {
	var err error
	if u.aptFiles, err = u.updateFiles(ctx); err != nil {
		return nil, err
	}
	var all []spec
	for _, node := range u.lab.nodes() {
		if u.lab.isVM(node) {
			continue // everything of it is in its disk
		}
		s := spec{Node: node, Root: u.root, Services: u.opts.HostServices, Files: u.aptFiles}
		switch {
		case isController(node):
			s.Services, s.Files = u.opts.ControllerServices, nil
		case node == PackagesNode:
			s.Root, s.Services = u.proxyRoot, proxyServices()
			if s.Files, err = proxyFiles(); err != nil {
				return nil, err
			}
		}
		all = append(all, s)
	}
	return all, nil
}

// makeDirs makes the lab's directories while no other lab's end can remove those above them. What the controller keeps
// secret lies below the first one.
func (u *up) makeDirs(ctx context.Context) error {
	unlock, err := lock(ctx, "machine")
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.MkdirAll(stateTop, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(u.lab.stateDir(), 0o700); err != nil {
		return err
	}
	for _, dir := range []string{u.lab.SharedDir(), u.lab.monitors(), filepath.Dir(u.lab.binary()), u.lab.NetNS("")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func (u *up) makeNetwork(ctx context.Context) error {
	if err := u.lab.makeSwitch(); err != nil {
		return err
	}
	return u.lab.makeClient(ctx)
}

// startHosts gives every host its token, and starts all at once.
func (u *up) startHosts(ctx context.Context) error {
	if u.opts.Driver == DriverVM {
		return u.startVMs(ctx)
	}
	errs := make([]error, len(u.lab.rec.Hosts))
	var wg sync.WaitGroup
	for i, host := range u.lab.rec.Hosts {
		wg.Go(func() {
			if errs[i] = u.giveToken(ctx, host); errs[i] == nil {
				errs[i] = u.lab.startNode(ctx, host)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (u *up) giveToken(ctx context.Context, node string) error {
	if u.opts.Join == nil {
		return nil
	}
	token, err := u.opts.Join(ctx, u.lab, node)
	if err != nil {
		return fmt.Errorf("token for %s: %w", node, err)
	}
	return os.WriteFile(filepath.Join(u.lab.ConfigDir(node), "token"), []byte(token+"\n"), 0o600)
}

// waitReady waits for the services' sockets, and then for what the controller sees.
func (u *up) waitReady(ctx context.Context) error {
	for _, host := range u.lab.rec.Hosts {
		if u.lab.isVM(host) {
			continue // its init has seen to it
		}
		root, err := u.lab.Root(host)
		if err != nil {
			return err
		}
		for _, svc := range u.opts.HostServices {
			if svc.Ready == "" {
				continue
			}
			ready := func() bool { return accepts(root + svc.Ready) }
			if err := u.lab.waitService(ctx, host, svc.Name, ready); err != nil {
				return err
			}
		}
	}
	if u.opts.WaitReady == nil {
		return nil
	}
	return u.opts.WaitReady(ctx, u.lab, u.lab.Hosts())
}

// writeContext makes the lab the one that the command line talks to, and the lab complete.
func (u *up) writeContext(context.Context) error {
	if u.opts.hasController() {
		if err := clictx.Set(u.lab.rec.Contexts, u.lab.Context()); err != nil {
			return err
		}
	}
	u.lab.rec.Complete = true
	return u.lab.save()
}

// serviceLimit is how long a service may take to become ready on a busy machine.
const serviceLimit = time.Minute

// waitService waits until ready; where that takes too long, the error holds the end of the service's log.
func (l *Lab) waitService(ctx context.Context, node, service string, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, serviceLimit)
	defer cancel()
	if err := waitFor(ctx, service+" on "+node, ready); err != nil {
		log, _ := os.ReadFile(filepath.Join(l.LogDir(node), service+".log"))
		return fmt.Errorf("%w; the end of its log:\n%s", err, lastLines(string(log), 10))
	}
	return nil
}

// accepts tells whether something listens at the unix socket.
func accepts(path string) bool {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}

func copyFile(from, to string, mode os.FileMode) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

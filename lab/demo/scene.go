package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"drydock/lab"
	"drydock/lab/images"
	"drydock/lab/load"
	"drydock/lab/rig"
)

// scene is a lab with pods and the clients that use them.
type scene struct {
	rig    *rig.Rig
	set    images.Set
	client load.Dialer
	view   *view
	pods   []*traveller
	faults []string
}

// bringUp makes the lab, and has it know the images: those that are named, or all.
func (s *scene) bringUp(ctx context.Context, options lab.Options, names ...string) (err error) {
	if s.set, err = images.Build(ctx, images.DefaultCache, s.view); err != nil {
		return err
	}
	s.view.say("bringing up the lab %s", options.Name)
	options.Hosts, options.Progress = cmp.Or(options.Hosts, len(route)), s.view
	if s.rig, err = rig.Up(ctx, options); err != nil {
		return err
	}
	s.client = load.Dialer{Netns: s.rig.NetNS(lab.ClientNode)}
	s.view.say("importing the images")
	if len(names) == 0 {
		names = s.set.Names()
	}
	return s.rig.ImportImages(ctx, route[0], io.Discard, names...)
}

// startPod runs a pod on a host, and waits until it serves.
func (s *scene) startPod(ctx context.Context, a app, host string) error {
	pod, err := s.rig.Run(ctx, a.spec(), host)
	if err != nil {
		return err
	}
	t, err := newTraveller(a, pod)
	if err != nil {
		return err
	}
	if err := t.await(ctx, s.client); err != nil {
		return err
	}
	s.pods = append(s.pods, t)
	s.view.add(t)
	return nil
}

func (s *scene) startClients(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, serveLimit)
	defer cancel()
	for _, t := range s.pods {
		s.view.status(t, "starting its clients")
		var err error
		if t.user, err = t.app.use(ctx, s, t.addr.String()); err != nil {
			return fmt.Errorf("clients of pod %s: %w", t.app.name, err)
		}
		s.view.status(t, "in use")
	}
	return nil
}

// stopClients ends all clients at once, since a download takes a while to end, and has settle take in what is in their books.
func (s *scene) stopClients(ctx context.Context, settle func(*traveller, findings)) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	type ending struct {
		*traveller
		found findings
		err   error
	}
	endings := make(chan ending)
	for _, t := range s.pods {
		s.view.status(t, "checking its clients' books")
		go func() {
			found, err := t.user.stop(ctx)
			endings <- ending{t, found, err}
		}()
	}
	for range s.pods {
		e := <-endings
		e.over = true
		s.view.status(e.traveller, "done")
		s.judge(e.traveller, e.found.Result, e.err)
		settle(e.traveller, e.found)
	}
	return ctx.Err()
}

// judge notes what the clients of a pod have to complain of in the end.
func (s *scene) judge(t *traveller, found load.Result, err error) {
	if err != nil {
		s.fault("%s: %v", t.app.name, err)
	}
	if found.Errors > 0 {
		s.fault("%s: %d errors, the first: %s", t.app.name, found.Errors, found.FirstError)
	}
	if lost := found.ConnectionsBefore - found.ConnectionsAfter; lost > 0 {
		s.fault("%s: %d of %d connections no longer answer", t.app.name, lost, found.ConnectionsBefore)
	}
}

// endUsers ends the clients that something kept from their proper end.
func (s *scene) endUsers() error {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	for _, t := range s.pods {
		if t.user != nil && !t.over {
			_, err := t.user.stop(over)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *scene) fault(format string, args ...any) {
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

// complaints are the faults as errors.
func (s *scene) complaints() []error {
	var errs []error
	for _, fault := range s.faults {
		errs = append(errs, errors.New(fault))
	}
	return errs
}

// finish keeps the hosts' logs of what failed, and removes the lab unless it is to be kept.
func (s *scene) finish(ctx context.Context, out io.Writer, logs string, keep bool, failed error) error {
	if s.rig == nil {
		return failed
	}
	if failed != nil {
		failed = errors.Join(failed, s.rig.KeepLogs(logs))
		fmt.Fprintf(out, "the logs of the hosts are in %s\n", logs)
	}
	if keep {
		_, err := fmt.Fprintf(out, "the lab is left up; `drydock lab down --name %s` removes it\n", s.rig.Name())
		return errors.Join(failed, err)
	}
	return errors.Join(failed, s.rig.Down(context.WithoutCancel(ctx)))
}

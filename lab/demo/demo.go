// Package demo shows what Drydock is for: it brings a lab of three hosts up, runs Redis, PostgreSQL, nginx and a program
// that checks itself in pods, and moves each of them around all hosts while its clients are at work.
//
// It passes only if every connection is kept, every acknowledged write is found again, no transaction fails, the
// download's checksum is right, and nothing changed inside the pods.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab"
	"drydock/lab/images"
	"drydock/lab/load"
	"drydock/lab/rig"
)

// Config of a demo. Nothing has a default.
type Config struct {
	// Lab is the name of the lab. One of that name that exists is replaced.
	Lab string
	// Binary is the drydock program that the hosts run.
	Binary string
	// Dir is where demo.json goes, and the hosts' logs if something fails.
	Dir string
	// Modes are those of the moves of every pod, in order.
	Modes []drydockv1.MigrationMode
	// Keep leaves the lab up at the end.
	Keep bool
	// Out gets what an operator watches.
	Out io.Writer
}

// route has the lab's hosts in the order in which every pod goes around them.
var route = [...]string{"h1", "h2", "h3"}

// demo is one run.
type demo struct {
	Config
	rig    *rig.Rig
	set    images.Set
	client load.Dialer
	view   *view
	pods   []*traveller
	rows   []Row
	faults []string
}

// Run shows everything. An error means that something was lost or broken, and says all of it.
func Run(ctx context.Context, cfg Config) error {
	results := filepath.Join(cfg.Dir, "demo.json")
	if err := errors.Join(os.MkdirAll(cfg.Dir, 0o755), removeIfThere(results)); err != nil {
		return err
	}
	d := &demo{Config: cfg, view: newView(cfg.Out)}
	err := errors.Join(d.run(ctx), d.endUsers())
	d.view.close()
	if terr := writeTable(cfg.Out, d.rows); terr != nil {
		err = errors.Join(err, terr)
	}
	err = errors.Join(err, writeRows(results, d.rows), d.verdict())
	if err != nil && d.rig != nil {
		logs := filepath.Join(cfg.Dir, "demo-logs")
		err = errors.Join(err, d.rig.KeepLogs(logs))
		fmt.Fprintf(cfg.Out, "the logs of the hosts are in %s\n", logs)
	}
	return errors.Join(err, d.down(context.WithoutCancel(ctx)))
}

// run does everything in order, and returns what kept it from being done.
func (d *demo) run(ctx context.Context) error {
	steps := []func(context.Context) error{d.up, d.startPods, d.startClients, d.moveAll, d.stopClients}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) up(ctx context.Context) (err error) {
	if d.set, err = images.Build(ctx, images.DefaultCache, d.view); err != nil {
		return err
	}
	d.view.say("bringing up the lab %s", d.Lab)
	d.rig, err = rig.Up(ctx, lab.Options{Name: d.Lab, Hosts: len(route), Binary: d.Binary, Progress: d.view})
	if err != nil {
		return err
	}
	d.client = load.Dialer{Netns: d.rig.NetNS(lab.ClientNode)}
	d.view.say("importing the images")
	return d.rig.ImportImages(ctx, route[0], io.Discard, d.set.Names()...)
}

// startPods runs every pod on the first host.
func (d *demo) startPods(ctx context.Context) error {
	for _, a := range apps() {
		pod, err := d.rig.Run(ctx, a.spec(), route[0])
		if err != nil {
			return err
		}
		t, err := newTraveller(a, pod)
		if err != nil {
			return err
		}
		if err := t.await(ctx, d.client); err != nil {
			return err
		}
		d.pods = append(d.pods, t)
		d.view.add(t)
	}
	return nil
}

func (d *demo) startClients(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, t := range d.pods {
		d.view.status(t, "starting its clients")
		var err error
		if t.user, err = t.app.use(ctx, d, t.addr.String()); err != nil {
			return fmt.Errorf("clients of pod %s: %w", t.app.name, err)
		}
		d.view.status(t, "in use")
	}
	return nil
}

// moveAll takes the pods around, one host further in each round. A pod that did not move stays where it is.
func (d *demo) moveAll(ctx context.Context) error {
	for round, mode := range d.Modes {
		to := route[(round+1)%len(route)]
		for _, t := range d.pods {
			if t.stuck {
				continue
			}
			row, err := d.move(ctx, t, to, mode)
			if err != nil {
				return err
			}
			d.rows = append(d.rows, row)
			t.last = len(d.rows) - 1
		}
	}
	return ctx.Err()
}

// stopClients ends all clients at once, since a download takes a while to end, and has them open their books.
func (d *demo) stopClients(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	type ending struct {
		*traveller
		found load.Result
		err   error
	}
	endings := make(chan ending)
	for _, t := range d.pods {
		d.view.status(t, "checking its clients' books")
		go func() {
			found, err := t.user.stop(ctx)
			endings <- ending{t, found, err}
		}()
	}
	for range d.pods {
		e := <-endings
		e.over = true
		d.settle(e.traveller, e.found, e.err)
	}
	return ctx.Err()
}

// settle enters what a pod's clients found in the end into the row of its last move: from then on it was known.
func (d *demo) settle(t *traveller, found load.Result, err error) {
	d.view.status(t, "done")
	if err != nil {
		d.fault("%s: %v", t.app.name, err)
	}
	if found.Errors > 0 {
		d.fault("%s: %d errors, the first: %s", t.app.name, found.Errors, found.FirstError)
	}
	if lost := found.ConnectionsBefore - found.ConnectionsAfter; lost > 0 {
		d.fault("%s: %d of %d connections no longer answer", t.app.name, lost, found.ConnectionsBefore)
	}
	if len(d.rows) == 0 || t.last < 0 {
		return
	}
	row := &d.rows[t.last]
	row.AckedWritesLost += found.AckedWritesLost
	row.Errors += found.Errors
	row.ConnectionsAfter = min(row.ConnectionsAfter, row.ConnectionsBefore-(found.ConnectionsBefore-found.ConnectionsAfter))
}

// endUsers ends the clients that something kept from their proper end.
func (d *demo) endUsers() error {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	for _, t := range d.pods {
		if t.user != nil && !t.over {
			_, err := t.user.stop(over)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (d *demo) fault(format string, args ...any) {
	d.faults = append(d.faults, fmt.Sprintf(format, args...))
}

func (d *demo) down(ctx context.Context) error {
	if d.rig == nil {
		return nil
	}
	if d.Keep {
		_, err := fmt.Fprintf(d.Out, "the lab is left up; `drydock lab down --name %s` removes it\n", d.Lab)
		return err
	}
	return d.rig.Down(ctx)
}

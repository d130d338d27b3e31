// Package demo shows what Drydock is for: it brings a lab of three hosts up, runs Redis, PostgreSQL, nginx and a program
// that checks itself in pods, and moves each of them around all hosts while its clients are at work.
//
// It passes only if every connection is kept, every acknowledged write is found again, no transaction fails, the
// download's checksum is right, and nothing changed inside the pods.
package demo

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab"
	"drydock/lab/load"
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
	scene
	rows []Row
}

// Run shows everything. An error means that something was lost or broken, and says all of it.
func Run(ctx context.Context, cfg Config) error {
	results := filepath.Join(cfg.Dir, "demo.json")
	if err := errors.Join(os.MkdirAll(cfg.Dir, 0o755), removeIfThere(results)); err != nil {
		return err
	}
	d := &demo{Config: cfg, scene: scene{view: newView(cfg.Out)}}
	err := errors.Join(d.run(ctx), d.endUsers())
	d.view.close()
	if terr := writeTable(cfg.Out, d.rows); terr != nil {
		err = errors.Join(err, terr)
	}
	err = errors.Join(err, writeRows(results, d.rows), d.verdict())
	return d.finish(ctx, cfg.Out, filepath.Join(cfg.Dir, "demo-logs"), cfg.Keep, err)
}

// run does everything in order, and returns what kept it from being done.
func (d *demo) run(ctx context.Context) error {
	steps := []func(context.Context) error{d.up, d.startPods, d.startClients, d.moveAll, d.endClients}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) up(ctx context.Context) error {
	return d.bringUp(ctx, lab.Options{Name: d.Lab, Binary: d.Binary})
}

// startPods runs every pod on the first host.
func (d *demo) startPods(ctx context.Context) error {
	for _, a := range apps() {
		if err := d.startPod(ctx, a, route[0]); err != nil {
			return err
		}
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

func (d *demo) endClients(ctx context.Context) error {
	return d.stopClients(ctx, func(t *traveller, found findings) { d.settle(t, found.Result) })
}

// settle enters what a pod's clients found in the end into the row of its last move: from then on it was known.
func (d *demo) settle(t *traveller, found load.Result) {
	if len(d.rows) == 0 || t.last < 0 {
		return
	}
	row := &d.rows[t.last]
	row.AckedWritesLost += found.AckedWritesLost
	row.Errors += found.Errors
	row.ConnectionsAfter = min(row.ConnectionsAfter, row.ConnectionsBefore-(found.ConnectionsBefore-found.ConnectionsAfter))
}

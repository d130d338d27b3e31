package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab"
	"drydock/lab/load"
	"drydock/lab/rig"
	"drydock/lab/shop"
)

const (
	servers = 5
	front   = "shop-front"
	// limit is how long anything may take before it counts as never happening. It is no promise about speed.
	limit = 10 * time.Minute
	// callsBetween is how many calls each client makes before the next thing is done.
	callsBetween = 40
)

var hosts = [...]string{"h1", "h2", "h3"}

// demo is one run.
type demo struct {
	lab, binary, dir string
	keep             bool
	seed             uint64
	out              io.Writer

	rig     *rig.Rig
	clients []*client
	book    *book
	report  Report
}

// show does everything, and says what went wrong.
func (d *demo) show(ctx context.Context) error {
	results := filepath.Join(d.dir, "demo-shim.json")
	if err := errors.Join(os.MkdirAll(d.dir, 0o755), os.RemoveAll(results)); err != nil {
		return err
	}
	err := d.run(ctx)
	for _, c := range d.clients {
		err = errors.Join(err, c.end())
	}
	d.report.add(d.clients)
	err = errors.Join(err, d.report.write(results), d.report.show(d.out), d.report.verdict())
	return d.finish(ctx, err)
}

func (d *demo) run(ctx context.Context) error {
	steps := []func(context.Context) error{d.up, d.apply, d.startPods, d.startClients, d.to("v2"), d.to("v3"), d.count, d.readAll}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// up makes the lab, and has it know the service's images.
func (d *demo) up(ctx context.Context) (err error) {
	d.say("bringing up the lab %s (seed %d)", d.lab, d.seed)
	if d.rig, err = rig.Up(ctx, lab.Options{Name: d.lab, Hosts: len(hosts), Binary: d.binary, Progress: d.out}); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "drydock-demo-shim-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	archives, err := shop.Archives(ctx, dir)
	if err != nil {
		return err
	}
	for version, path := range archives {
		if err := d.rig.ImportArchive(ctx, path, "shop:"+version, hosts[0]); err != nil {
			return err
		}
	}
	return nil
}

// apply has the controller know the service, with its gateway.
func (d *demo) apply(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "drydock-demo-shim-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path, err := shop.WriteRecord(dir, shop.Record+shop.Gateway)
	if err != nil {
		return err
	}
	return d.drydock(ctx, "service", "apply", path)
}

// startPods runs the servers, each with a volume of its own, and waits until the gateway leads calls to all of them, and each has its shim.
func (d *demo) startPods(ctx context.Context) error {
	for i := range servers {
		err := d.drydock(ctx, "pod", "run", fmt.Sprint("shop-", i), "--image", "shop:v1", "--service", "shop", "--version", "v1",
			"--host", hosts[i%len(hosts)], "-v", "data:"+shop.Dir, "--health-http", fmt.Sprint(shop.Port, "/healthz"))
		if err != nil {
			return err
		}
	}
	d.say("waiting for the gateway, and for the servers' shims")
	return d.until(ctx, "the gateway and the servers' shims", func() bool {
		var said bytes.Buffer
		var shims []struct {
			State    string
			Backends []struct{ Healthy bool }
		}
		err := errors.Join(d.command(ctx, &said, "shim", "ls", "-o", "json"), json.Unmarshal(said.Bytes(), &shims))
		if err != nil || len(shims) != servers+1 {
			return false
		}
		healthy := 0
		for _, s := range shims {
			if s.State != "serving" {
				return false
			}
			for _, b := range s.Backends {
				if b.Healthy && len(s.Backends) > 1 {
					healthy++
				}
			}
		}
		return healthy == servers
	})
}

// startClients begins calls of every version over both protocols, from outside of the hosts.
func (d *demo) startClients(ctx context.Context) error {
	res, err := d.rig.GetPod(ctx, connect.NewRequest(&drydockv1.GetPodRequest{Name: front}))
	if err != nil {
		return err
	}
	prefix, err := netip.ParsePrefix(res.Msg.Pod.Spec.Addresses[0])
	if err != nil {
		return err
	}
	address := netip.AddrPortFrom(prefix.Addr(), shop.Port).String()
	dial := load.Dialer{Netns: d.rig.NetNS(lab.ClientNode)}.DialContext
	d.book = newBook()
	for i, version := range shop.Versions {
		calls, err := shop.NewGRPC(dial, address, version)
		if err != nil {
			return err
		}
		d.clients = append(d.clients, newClient(version, "http", shop.NewHTTP(dial, address, version), d.book, d.seed+uint64(2*i)),
			newClient(version, "grpc", calls, d.book, d.seed+uint64(2*i+1)))
	}
	for _, c := range d.clients {
		c.begin()
	}
	return d.more(ctx)
}

// more waits until every client has made some calls more, and looks that none has failed.
func (d *demo) more(ctx context.Context) error {
	before := make([]int64, len(d.clients))
	for i, c := range d.clients {
		before[i] = c.calls.Load()
	}
	err := d.until(ctx, "calls of all clients", func() bool {
		for i, c := range d.clients {
			if c.calls.Load() < before[i]+callsBetween {
				return false
			}
		}
		return true
	})
	var sum int64
	for _, c := range d.clients {
		sum += c.calls.Load()
		if first := c.fault(); first != "" {
			err = errors.Join(err, errors.New(first))
		}
	}
	d.say("%d calls, %d orders", sum, d.book.size())
	return err
}

// to upgrades the service to a version, and drains host after host meanwhile.
func (d *demo) to(version string) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := d.drydock(ctx, "service", "upgrade", "shop", "--to", version, "--image", "shop:"+version, "--detach"); err != nil {
			return err
		}
		for _, host := range hosts {
			if err := d.drain(ctx, host); err != nil {
				return err
			}
		}
		var last upgrade
		err := d.until(ctx, "the upgrade to "+version, func() bool {
			all, err := d.upgrades(ctx)
			if err == nil && len(all) > 0 {
				last = all[0]
			}
			return last.State != "" && last.State != "UPGRADE_STATE_RUNNING" && last.State != "UPGRADE_STATE_WAITING"
		})
		if err == nil && last.State != "UPGRADE_STATE_FINISHED" {
			err = errors.Join(fmt.Errorf("the upgrade to %s is %s", version, last.State), d.drydock(ctx, "upgrade", "show", last.ID))
		}
		return errors.Join(err, d.more(ctx))
	}
}

// upgrade is what `drydock upgrade ls` says of one.
type upgrade struct {
	ID, State string
	Pods      []struct{ State string }
}

// upgrades are the service's, the latest first.
func (d *demo) upgrades(ctx context.Context) (all []upgrade, err error) {
	var said bytes.Buffer
	if err := d.command(ctx, &said, "upgrade", "ls", "--service", "shop", "-o", "json"); err != nil {
		return nil, err
	}
	return all, json.Unmarshal(said.Bytes(), &all)
}

// drain empties a host, and lets pods come to it again. A pod that is being upgraded stays until that is over.
func (d *demo) drain(ctx context.Context, host string) error {
	var last error
	err := d.until(ctx, "the drain of "+host, func() bool {
		last = d.drydock(ctx, "host", "drain", host)
		return last == nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return errors.Join(d.until(ctx, "host "+host+" again", func() bool {
		last = d.drydock(ctx, "host", "resume", host)
		return last == nil
	}), last)
}

// count takes down what was upgraded and what has moved.
func (d *demo) count(ctx context.Context) error {
	moves, err := d.rig.ListMigrations(ctx, connect.NewRequest(&drydockv1.ListMigrationsRequest{Limit: 1000}))
	if err != nil {
		return err
	}
	for _, m := range moves.Msg.Migrations {
		if m.Outcome == drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED {
			d.report.Migrations++
		}
	}
	upgrades, err := d.upgrades(ctx)
	if err != nil {
		return err
	}
	for _, u := range upgrades {
		for _, p := range u.Pods {
			if p.State == drydockv1.UpgradePodState_UPGRADE_POD_STATE_UPGRADED.String() {
				d.report.Upgrades++
			}
		}
	}
	return d.drydock(ctx, "service", "show", "shop")
}

// readAll ends the clients' own calls, and reads every order through every version, over both protocols.
func (d *demo) readAll(ctx context.Context) error {
	for _, c := range d.clients {
		c.rest()
	}
	d.say("reading %d orders through every version", d.book.size())
	lost := make(map[string]bool)
	for _, id := range d.book.all() {
		for _, c := range d.clients {
			if err := c.read(ctx, id); err != nil {
				lost[id] = true
				d.say("order %s through %s over %s: %v", id, c.version, c.protocol, err)
			}
		}
	}
	d.report.WritesLost = len(lost)
	return ctx.Err()
}

func (d *demo) until(ctx context.Context, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-time.After(time.Second / 2):
		}
	}
	return nil
}

// drydock runs the command line as an operator does, and shows what it says.
func (d *demo) drydock(ctx context.Context, args ...string) error {
	d.say("$ drydock %s", strings.Join(args, " "))
	return d.command(ctx, d.out, args...)
}

func (d *demo) command(ctx context.Context, out io.Writer, args ...string) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, d.binary, args...)
	cmd.Env = append(os.Environ(), d.rig.Env()...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stdout, cmd.Stderr = out, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("drydock %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return nil
}

// finish keeps the hosts' logs of what failed, and removes the lab unless it is to be kept.
func (d *demo) finish(ctx context.Context, failed error) error {
	if d.rig == nil {
		return failed
	}
	if failed != nil {
		logs := filepath.Join(d.dir, "demo-shim-logs")
		failed = errors.Join(failed, d.rig.KeepLogs(logs))
		d.say("the logs of the hosts are in %s", logs)
	}
	if d.keep {
		d.say("the lab is left up; `drydock lab down --name %s` removes it", d.lab)
		return failed
	}
	return errors.Join(failed, d.rig.Down(context.WithoutCancel(ctx)))
}

package demo

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab/load"
	"drydock/lab/rig"
)

// traveller is a pod with its clients.
type traveller struct {
	app   app
	addr  netip.AddrPort
	host  string
	user  user
	last  int  // index of the row of its last move
	stuck bool // a move failed
	over  bool // the clients have ended
}

func newTraveller(a app, pod *drydockv1.Pod) (*traveller, error) {
	if len(pod.GetSpec().GetAddresses()) == 0 {
		return nil, fmt.Errorf("pod %s has no address", a.name)
	}
	prefix, err := netip.ParsePrefix(pod.Spec.Addresses[0])
	if err != nil {
		return nil, fmt.Errorf("address of pod %s: %w", a.name, err)
	}
	return &traveller{app: a, addr: netip.AddrPortFrom(prefix.Addr(), a.port), host: pod.Host, last: -1}, nil
}

// serveLimit is how long services may take to start, and their clients too, on emulated processors that are busy.
const serveLimit = 5 * time.Minute

// await waits until the pod's service takes connections.
func (t *traveller) await(ctx context.Context, from load.Dialer) error {
	ctx, cancel := context.WithTimeout(ctx, serveLimit)
	defer cancel()
	for {
		conn, err := from.DialContext(ctx, "tcp", t.addr.String())
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("pod %s does not serve: %w", t.app.name, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// move takes a pod to a host and books what its clients noticed. An error means that it cannot be told.
func (d *demo) move(ctx context.Context, t *traveller, to string, mode drydockv1.MigrationMode) (Row, error) {
	row := Row{Pod: t.app.name, App: t.app.shows, From: t.host, To: to, Mode: rig.ModeName(mode)}
	before, err := d.client.Connections(t.addr)
	if err != nil {
		return row, err
	}
	row.ConnectionsBefore = len(before)
	acked, begun := t.user.acked(), time.Now()
	d.view.moving(t, to)
	report, err := d.rig.Move(ctx, t.app.name, to, mode, func(p *drydockv1.MigrationProgress) { d.view.progress(t, p) })
	if err != nil {
		t.stuck = true
		row.Errors++
		d.fault("%v", err)
	} else {
		t.host = to
	}
	if report != nil {
		row.Mode, row.Bytes, row.Freeze = rig.ModeName(report.Mode), report.Bytes, millis(report.Freeze.AsDuration())
	}
	t.awaitAnswers(ctx, time.Now())
	row.Blackout, row.AckedWrites = millis(t.user.blackout(begun, time.Now())), t.user.acked()-acked
	after, err := d.client.Connections(t.addr)
	if err != nil {
		return row, err
	}
	row.ConnectionsAfter = kept(before, after)
	for _, failed := range t.user.check(ctx) {
		row.Errors++
		d.fault("%s on %s: %s", t.app.name, t.host, failed)
	}
	d.view.moved(t, row)
	return row, ctx.Err()
}

// answerLimit is how long a client may wait for a sign of life after a move. It is longer than TCP's longest pause would
// be after a blackout of several seconds.
const answerLimit = 15 * time.Second

// awaitAnswers waits until the clients are answered again, so that a silence which outlasts the move counts whole.
func (t *traveller) awaitAnswers(ctx context.Context, since time.Time) {
	limit := since.Add(answerLimit)
	for now := since; now.Before(limit) && ctx.Err() == nil; now = time.Now() {
		if t.user.blackout(since, now) < now.Sub(since) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// kept counts the ports of the first list that are in the second.
func kept(before, after []uint16) int {
	count := 0
	for _, port := range before {
		if slices.Contains(after, port) {
			count++
		}
	}
	return count
}

// millis is a duration in milliseconds, to the tenth.
func millis(d time.Duration) float64 {
	return float64(d.Round(100*time.Microsecond)) / float64(time.Millisecond)
}

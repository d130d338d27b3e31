package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"drydock/lab/load"
)

// MigrateConfig of a comparison of moves. Nothing has a default.
type MigrateConfig struct {
	// Lab is the name of the lab. One of that name that exists is replaced.
	Lab string
	// Binary is the drydock program that the hosts run.
	Binary string
	// Dir is where bench-migrate.json goes, and bench-migrate-rounds.json with every move.
	Dir string
	// Rounds is how often every contender moves, with either amount of data.
	Rounds int
	// Cases are the amounts of data: "empty", "256mb".
	Cases []string
	Out   io.Writer
}

// The load on the Redis that is not empty: values fill 4 kB of memory each.
const (
	writers   = 10
	writeRate = 2000
	valueSize = 4000
	valueKeys = 256 << 20 / 4096 / writers
)

const (
	settleTime = 500 * time.Millisecond // before and after a move
	silence    = 10 * time.Second       // after which an open connection counts as lost
	patience   = time.Minute            // for a service to answer again
	moveLimit  = 5 * time.Minute
)

// migrations is one run.
type migrations struct {
	MigrateConfig
	hosts      *hosts
	contenders []contender
	floor      *runc
	floors     []time.Duration
	at         map[string]string // the host of each contender's Redis; empty after a failure
	rounds     []Round
}

// Migrate compares moves, and writes and prints what was found. Moves that fail are reported and count for nothing; the
// error tells of contenders that never came through.
func Migrate(ctx context.Context, cfg MigrateConfig) (err error) {
	m := &migrations{MigrateConfig: cfg, at: make(map[string]string)}
	if m.hosts, err = bring(ctx, cfg.Lab, cfg.Binary, 2, cfg.Out); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.hosts.Down(context.WithoutCancel(ctx))) }()
	if err := m.enter(ctx); err != nil {
		return err
	}
	found := make(map[string]Case)
	for _, name := range cfg.Cases {
		m.floors = nil
		before := len(m.rounds)
		if err := m.runCase(ctx, name); err != nil {
			return err
		}
		found[name] = summarize(m.rounds[before:], m.floors)
		printCase(cfg.Out, name, found[name], m.rounds[before:])
		err := errors.Join(
			writeJSON(filepath.Join(cfg.Dir, "bench-migrate.json"), found),
			writeJSON(filepath.Join(cfg.Dir, "bench-migrate-rounds.json"), m.rounds))
		if err != nil {
			return err
		}
	}
	return m.absent()
}

// enter makes all contenders and starts their Redis.
func (m *migrations) enter(ctx context.Context) error {
	first := m.hosts.Hosts()[0]
	stop := newDrydock(m.hosts, "stop")
	if err := stop.start(ctx, first); err != nil {
		return err
	}
	pod, err := newPodman(ctx, m.hosts)
	if err != nil {
		return err
	}
	bare, err := newRunc(ctx, m.hosts, 1, stop, first, "")
	if err != nil {
		return err
	}
	if m.floor, err = newRunc(ctx, m.hosts, 2, stop, first, floorOptions); err != nil {
		return err
	}
	m.floor.floor = &m.floors
	m.contenders = []contender{stop, newDrydock(m.hosts, "postcopy"), pod, bare, floorContender{m.floor}}
	return nil
}

// floorContender is the container that CRIU's own time is taken of.
type floorContender struct{ *runc }

func (floorContender) name() string { return "criu" }

func (m *migrations) runCase(ctx context.Context, name string) error {
	for round := range m.Rounds {
		for i := range m.contenders {
			// Every round begins with another contender, so that none always follows the same one.
			c := m.contenders[(i+round)%len(m.contenders)]
			r := m.round(ctx, name, c)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			line := fmt.Sprintf("%s %d/%d: %-16s %s -> %s  blackout %6.0f ms  freeze %6.0f ms",
				name, round+1, m.Rounds, c.name(), r.From, r.To, r.BlackoutMS, r.FreezeMS)
			if r.Lost {
				line += "  connection lost"
			}
			if r.Error != "" {
				line += "  failed: " + r.Error
			}
			fmt.Fprintln(m.Out, line)
			m.rounds = append(m.rounds, r)
		}
	}
	return nil
}

// round makes one move of one contender.
func (m *migrations) round(ctx context.Context, name string, c contender) Round {
	r := Round{Case: name, Contender: c.name()}
	ctx, cancel := context.WithTimeout(ctx, moveLimit)
	defer cancel()
	if err := m.place(ctx, c); err != nil {
		r.Error = err.Error()
		return r
	}
	r.From = m.at[c.name()]
	hosts := m.hosts.Hosts()
	if r.To = hosts[0]; r.From == r.To {
		r.To = hosts[1]
	}
	m.at[c.name()] = ""
	if err := m.measure(ctx, c, &r); err != nil {
		r.Error = err.Error()
		return r
	}
	if err := c.tidy(ctx, r.From); err != nil {
		r.Error = err.Error()
		return r
	}
	m.at[c.name()] = r.To
	return r
}

// place makes sure that the contender's Redis runs.
func (m *migrations) place(ctx context.Context, c contender) error {
	if m.at[c.name()] != "" {
		return nil
	}
	first := m.hosts.Hosts()[0]
	if err := c.start(ctx, first); err != nil {
		return err
	}
	if err := m.hosts.awaitRedis(ctx, c.address()); err != nil {
		return err
	}
	m.at[c.name()] = first
	return nil
}

func (m *migrations) measure(ctx context.Context, c contender, r *Round) (err error) {
	address := netip.MustParseAddr(c.address())
	server := netip.AddrPortFrom(address, redisPort).String()
	if r.Case != "empty" {
		load, err := m.fill(ctx, server)
		if err != nil {
			return err
		}
		defer func() {
			result, serr := load.Stop(ctx)
			r.WritesLost = result.AckedWritesLost
			err = errors.Join(err, serr, m.flush(ctx, server))
		}()
	}
	probe, err := load.StartProbe(ctx, load.ProbeConfig{Dialer: m.hosts.client(), Addr: server, RedialAfter: silence})
	if err != nil {
		return err
	}
	time.Sleep(settleTime)
	from := time.Now()
	freeze, err := c.move(ctx, r.From, r.To)
	moved := time.Now()
	for err == nil && !probe.Last().After(moved) && time.Since(moved) < patience {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(settleTime)
	r.BlackoutMS, r.FreezeMS = milliseconds(probe.Blackout(from, time.Now())), milliseconds(freeze)
	answered := probe.Last().After(moved)
	r.Lost = probe.Stop().ConnectionsAfter == 0
	if err == nil && !answered {
		err = fmt.Errorf("nobody answered for %s after the move", patience)
	}
	return err
}

// fill writes the data, and goes on writing.
func (m *migrations) fill(ctx context.Context, server string) (*load.RedisWriters, error) {
	return load.StartRedisWriters(ctx, load.RedisConfig{
		Dialer: m.hosts.client(), Addr: server, Connections: writers, Rate: writeRate,
		Keys: valueKeys, ValueSize: valueSize, Fill: true,
	})
}

// flush empties the Redis again.
func (m *migrations) flush(ctx context.Context, server string) error {
	conn, err := m.hosts.client().DialContext(ctx, "tcp", server)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	return askRedis(conn, "FLUSHALL")
}

func askRedis(conn net.Conn, command string) error {
	if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && line != "+OK\r\n" {
		err = fmt.Errorf("redis answered %q to %s", line, command)
	}
	return err
}

// absent names the contenders that never came through.
func (m *migrations) absent() error {
	var errs []error
	for _, name := range m.Cases {
		for _, c := range m.contenders {
			last, worked := "", false
			for _, r := range m.rounds {
				if r.Case == name && r.Contender == c.name() {
					last, worked = r.Error, worked || r.Error == ""
				}
			}
			if !worked {
				errs = append(errs, fmt.Errorf("%s: no move of %s worked: %s", name, c.name(), last))
			}
		}
	}
	return errors.Join(errs...)
}

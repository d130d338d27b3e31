package load

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// PGConfig says how to write to a PostgreSQL server.
type PGConfig struct {
	Dialer      Dialer
	Addr        string
	User        string  // postgres if empty
	Database    string  // postgres if empty
	Connections int     // 1 if zero
	Rate        float64 // transactions a second over all connections; as fast as answers come if zero
}

// cannotConnectNow is the server's code for "the database system is starting up".
const cannotConnectNow = "57P03"

// connect opens one connection that is never replaced. A server that is starting up is waited for.
func (c PGConfig) connect(ctx context.Context) (*pgx.Conn, error) {
	settings, err := pgx.ParseConfig(fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", orText(c.User, "postgres"), c.Addr, orText(c.Database, "postgres")))
	if err != nil {
		return nil, fmt.Errorf("postgres at %s: %w", c.Addr, err)
	}
	settings.DialFunc = c.Dialer.DialContext
	for {
		conn, err := pgx.ConnectConfig(ctx, settings)
		if err == nil {
			return conn, nil
		}
		var refused *pgconn.PgError
		if ctx.Err() != nil || !errors.As(err, &refused) || refused.Code != cannotConnectNow {
			return nil, fmt.Errorf("postgres at %s: %w", c.Addr, err)
		}
		sleep(ctx, 50*time.Millisecond)
	}
}

// PGWriters commit one row after the other through open connections and remember which commits were acknowledged.
type PGWriters struct {
	cfg     PGConfig
	table   string
	admin   *pgx.Conn
	writers []*pgWriter
	lines   []*Timeline
	acked   atomic.Int64
	cancel  context.CancelFunc // gives up on answers
	stop    chan struct{}
	done    sync.WaitGroup
}

// pgWriter is one connection. Until its goroutine has ended only that one touches it.
type pgWriter struct {
	number int
	conn   *pgx.Conn
	line   *Timeline
	acked  int64
	err    error
}

// StartPGWriters makes a table of its own, opens the connections and begins to commit. The context covers the start only.
func StartPGWriters(ctx context.Context, cfg PGConfig) (*PGWriters, error) {
	cfg.Connections = max(cfg.Connections, 1)
	w := &PGWriters{cfg: cfg, table: "load_" + rand.Text()[:8], stop: make(chan struct{})}
	w.table = pgx.Identifier{w.table}.Sanitize()
	admin, err := cfg.connect(ctx)
	if err != nil {
		return nil, err
	}
	w.admin = admin
	if _, err := admin.Exec(ctx, "create table "+w.table+" (writer int, step bigint, primary key (writer, step))"); err != nil {
		w.closeAll()
		return nil, fmt.Errorf("postgres writers: make the table: %w", err)
	}
	for i := range cfg.Connections {
		conn, err := cfg.connect(ctx)
		if err != nil {
			w.closeAll()
			return nil, err
		}
		one := &pgWriter{number: i, conn: conn, line: newTimeline()}
		w.writers, w.lines = append(w.writers, one), append(w.lines, one.line)
	}
	running, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	for _, one := range w.writers {
		w.done.Go(func() { w.write(running, one) })
	}
	return w, nil
}

// Acked returns how many commits were acknowledged so far.
func (w *PGWriters) Acked() int64 { return w.acked.Load() }

// Blackout returns the longest time within the window that any one of the connections waited between two answers.
func (w *PGWriters) Blackout(from, to time.Time) time.Duration {
	return longestBlackout(w.lines, from, to)
}

// Stop lets every connection finish its commit, looks up every acknowledged one over a new connection and drops the
// table. A connection that has not answered when the context ends, or after ten seconds, is lost. An error means that
// the books could not be checked.
func (w *PGWriters) Stop(ctx context.Context) (Result, error) {
	close(w.stop)
	patience := time.AfterFunc(10*time.Second, w.cancel)
	unhook := context.AfterFunc(ctx, w.cancel)
	w.done.Wait()
	patience.Stop()
	unhook()
	w.cancel()
	defer w.closeAll()
	result := Result{ConnectionsBefore: len(w.writers), AckedWrites: w.acked.Load()}
	for _, one := range w.writers {
		if one.err == nil {
			result.ConnectionsAfter++
			continue
		}
		result.fail(fmt.Errorf("connection %d: %w", one.number, one.err))
	}
	checker, err := w.cfg.connect(ctx)
	if err != nil {
		return result, fmt.Errorf("postgres writers: check the commits: %w", err)
	}
	defer func() { _ = checker.Close(context.WithoutCancel(ctx)) }()
	for _, one := range w.writers {
		var kept int64
		row := checker.QueryRow(ctx, "select count(*) from "+w.table+" where writer = $1 and step <= $2", one.number, one.acked)
		if err := row.Scan(&kept); err != nil {
			return result, fmt.Errorf("postgres writers: check the commits of connection %d: %w", one.number, err)
		}
		result.AckedWritesLost += one.acked - kept
	}
	if _, err := checker.Exec(ctx, "drop table "+w.table); err != nil {
		return result, fmt.Errorf("postgres writers: drop the table: %w", err)
	}
	return result, nil
}

func (w *PGWriters) closeAll() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, one := range w.writers {
		_ = one.conn.Close(ctx)
	}
	_ = w.admin.Close(ctx)
}

// write commits until told to stop, and then once more, which proves that the connection still answers.
func (w *PGWriters) write(ctx context.Context, one *pgWriter) {
	pace := time.Nanosecond
	if w.cfg.Rate > 0 {
		pace = time.Duration(float64(len(w.writers)) / w.cfg.Rate * float64(time.Second))
	}
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for last := false; one.err == nil && !last; {
		select {
		case <-w.stop:
			last = true
		case <-ticker.C:
		}
		one.err = w.commit(ctx, one)
	}
}

// commit writes the next row. Without an acknowledgement the connection is not used again: the row may be there or not.
func (w *PGWriters) commit(ctx context.Context, one *pgWriter) error {
	tag, err := one.conn.Exec(ctx, "insert into "+w.table+" values ($1, $2)", one.number, one.acked+1)
	if err != nil {
		return err
	}
	if tag.RowsAffected() != 1 {
		return errors.New("the server acknowledged nothing: " + tag.String())
	}
	one.acked++
	w.acked.Add(1)
	one.line.mark()
	return nil
}

func orText(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

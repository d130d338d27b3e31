package load

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// RedisConfig says how to write to a Redis.
type RedisConfig struct {
	Dialer      Dialer
	Addr        string
	Connections int     // each writes to its own keys; 1 if zero
	Rate        float64 // writes a second over all connections; as fast as answers come if zero
	Keys        int     // keys that each connection overwrites in turn; 16 if zero
	ValueSize   int     // bytes of each value, at least 32; 64 if zero
	Fill        bool    // write every key once before the start, so that the data has its full size: Connections * Keys * ValueSize
}

// RedisWriters write through open connections and remember what was acknowledged. Each step of a connection is two
// writes sent together: an INCR, whose answer must continue the last one, and a SET of a value that says which step it is
// from.
type RedisWriters struct {
	cfg     RedisConfig
	run     string // makes the keys of this run its own
	writers []*redisWriter
	lines   []*Timeline
	acked   atomic.Int64
	stop    chan struct{}
	done    sync.WaitGroup
}

// StartRedisWriters opens the connections, fills the keys if asked to, and begins to write. The context covers the start
// only.
func StartRedisWriters(ctx context.Context, cfg RedisConfig) (*RedisWriters, error) {
	cfg.Connections, cfg.Keys = max(cfg.Connections, 1), orDefault(cfg.Keys, 16)
	cfg.ValueSize = max(orDefault(cfg.ValueSize, 64), 32)
	w := &RedisWriters{cfg: cfg, run: rand.Text()[:8], stop: make(chan struct{})}
	for i := range cfg.Connections {
		conn, err := dialRESP(ctx, cfg.Dialer, cfg.Addr)
		if err != nil {
			w.closeAll()
			return nil, fmt.Errorf("redis writers: connection %d: %w", i, err)
		}
		one := &redisWriter{all: w, number: i, conn: conn, line: newTimeline(), inSlot: make([]int64, cfg.Keys)}
		w.writers, w.lines = append(w.writers, one), append(w.lines, one.line)
		if err := one.fill(ctx); err != nil {
			w.closeAll()
			return nil, fmt.Errorf("redis writers: fill the keys of connection %d: %w", i, err)
		}
	}
	for _, one := range w.writers {
		w.done.Go(one.write)
	}
	return w, nil
}

// Acked returns how many writes were acknowledged so far.
func (w *RedisWriters) Acked() int64 { return w.acked.Load() }

// Blackout returns the longest time within the window that any one of the connections waited between two answers. It
// is never less than the pace of one connection.
func (w *RedisWriters) Blackout(from, to time.Time) time.Duration {
	return longestBlackout(w.lines, from, to)
}

// Stop lets every connection finish the step it is in, and then looks up every acknowledged write. A connection that has
// not answered when the context ends, or after ten seconds, is lost. An error means that the books could not be checked.
func (w *RedisWriters) Stop(ctx context.Context) (Result, error) {
	close(w.stop)
	patience := time.AfterFunc(10*time.Second, w.closeAll)
	unhook := context.AfterFunc(ctx, w.closeAll)
	w.done.Wait()
	patience.Stop()
	unhook()
	defer w.closeAll()
	result := Result{ConnectionsBefore: len(w.writers), AckedWrites: w.acked.Load()}
	for _, one := range w.writers {
		if one.err == nil {
			result.ConnectionsAfter++
			continue
		}
		result.fail(fmt.Errorf("connection %d: %w", one.number, one.err))
	}
	conn, err := dialRESP(ctx, w.cfg.Dialer, w.cfg.Addr)
	if err != nil {
		return result, fmt.Errorf("redis writers: check the writes: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	for _, one := range w.writers {
		lost, err := one.missing(conn)
		if err != nil {
			return result, fmt.Errorf("redis writers: check the writes of connection %d: %w", one.number, err)
		}
		result.AckedWritesLost += lost
	}
	return result, nil
}

func (w *RedisWriters) closeAll() {
	for _, one := range w.writers {
		_ = one.conn.Close()
	}
}

// redisWriter is one connection. Until its goroutine has ended only that one touches it.
type redisWriter struct {
	all    *RedisWriters
	number int
	conn   *respConn
	line   *Timeline
	step   int64   // acknowledged
	inSlot []int64 // the last acknowledged step in each key, 0 for none
	err    error
}

// batch is how many commands go out together where nobody measures.
const batch = 64

// fill writes all keys as if by a first round of steps.
func (o *redisWriter) fill(ctx context.Context) error {
	if !o.all.cfg.Fill {
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = o.conn.Close() })()
	for range o.inSlot {
		if err := o.queueStep(o.step + 1); err != nil {
			return err
		}
		o.step++
		o.inSlot[o.slot(o.step)] = o.step
		if o.step%batch != 0 && int(o.step) != len(o.inSlot) {
			continue
		}
		if err := o.conn.flush(); err != nil {
			return err
		}
		for range 2 * ((o.step-1)%batch + 1) {
			if _, _, err := o.conn.reply(); err != nil {
				return err
			}
			o.all.acked.Add(1)
		}
	}
	return ctx.Err()
}

// write makes steps until told to stop, and then one more, which proves that the connection still answers.
func (o *redisWriter) write() {
	pace := time.Nanosecond
	if rate := o.all.cfg.Rate; rate > 0 {
		pace = time.Duration(2 * float64(len(o.all.writers)) / rate * float64(time.Second))
	}
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for last := false; o.err == nil && !last; {
		select {
		case <-o.all.stop:
			last = true
		case <-ticker.C:
		}
		o.err = o.writeStep()
	}
}

func (o *redisWriter) queueStep(step int64) error {
	if err := o.conn.queue("INCR", o.counter()); err != nil {
		return err
	}
	slot := o.slot(step)
	return o.conn.queue("SET", o.key(slot), o.value(slot, step))
}

// writeStep makes the two writes of the next step and accounts for their answers.
func (o *redisWriter) writeStep() error {
	next := o.step + 1
	if err := o.queueStep(next); err != nil {
		return err
	}
	if err := o.conn.flush(); err != nil {
		return err
	}
	count, _, err := o.conn.reply()
	if err != nil {
		return err
	}
	if count != strconv.FormatInt(next, 10) {
		return fmt.Errorf("the counter went from %d to %s", o.step, count)
	}
	o.step = next
	o.all.acked.Add(1)
	if _, _, err := o.conn.reply(); err != nil {
		return err
	}
	o.inSlot[o.slot(next)] = next
	o.all.acked.Add(1)
	o.line.mark()
	return nil
}

// missing counts the acknowledged writes that the server does not have.
func (o *redisWriter) missing(server *respConn) (int64, error) {
	text, found, err := server.do("GET", o.counter())
	if err != nil {
		return 0, err
	}
	var count int64
	if found {
		if count, err = strconv.ParseInt(text, 10, 64); err != nil {
			return 0, fmt.Errorf("the counter holds %q: %w", text, err)
		}
	}
	lost := max(o.step-count, 0)
	for from := 0; from < len(o.inSlot); from += batch {
		n, err := o.missingKeys(server, from, min(from+batch, len(o.inSlot)))
		if err != nil {
			return lost, err
		}
		lost += n
	}
	return lost, nil
}

func (o *redisWriter) missingKeys(server *respConn, from, to int) (int64, error) {
	for slot := from; slot < to; slot++ {
		if err := server.queue("GET", o.key(slot)); err != nil {
			return 0, err
		}
	}
	if err := server.flush(); err != nil {
		return 0, err
	}
	var lost int64
	for slot := from; slot < to; slot++ {
		value, _, err := server.reply()
		if err != nil {
			return lost, err
		}
		if o.inSlot[slot] > 0 && !o.holds(slot, value) {
			lost++
		}
	}
	return lost, nil
}

// holds reports whether a value is whole and from the last acknowledged step of its key, or from a later one whose answer
// did not arrive.
func (o *redisWriter) holds(slot int, value string) bool {
	if len(value) < stepDigits {
		return false
	}
	step, err := strconv.ParseInt(value[:stepDigits], 10, 64)
	return err == nil && step >= o.inSlot[slot] && value == o.value(slot, step)
}

const stepDigits = 20

// value is the step in decimal, and after it bytes that differ from step to step and from key to key.
func (o *redisWriter) value(slot int, step int64) string {
	value := fmt.Appendf(make([]byte, 0, o.all.cfg.ValueSize+8), "%0*d", stepDigits, step)
	mixed := uint64(step)<<24 ^ uint64(slot)<<8 ^ uint64(o.number)
	for len(value) < o.all.cfg.ValueSize {
		mixed ^= mixed << 13
		mixed ^= mixed >> 7
		mixed ^= mixed << 17
		mixed++
		value = append(value, byte(mixed), byte(mixed>>8), byte(mixed>>16), byte(mixed>>24), byte(mixed>>32), byte(mixed>>40))
	}
	return string(value[:o.all.cfg.ValueSize])
}

func (o *redisWriter) slot(step int64) int { return int((step - 1) % int64(len(o.inSlot))) }
func (o *redisWriter) key(slot int) string {
	return fmt.Sprintf("load:%s:%d:%d", o.all.run, o.number, slot)
}
func (o *redisWriter) counter() string { return fmt.Sprintf("load:%s:%d", o.all.run, o.number) }
func orDefault(value, otherwise int) int {
	if value == 0 {
		return otherwise
	}
	return value
}

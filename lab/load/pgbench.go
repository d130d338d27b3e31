package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// PGBenchConfig says how pgbench is to be run.
type PGBenchConfig struct {
	Dialer  Dialer
	Root    string // a Debian root with PostgreSQL in it, which pgbench is run from
	Addr    string
	Clients int     // 4 if zero
	Scale   int     // 1 if zero
	Rate    float64 // transactions a second; as fast as possible if zero
}

// PGBenchResult is what pgbench said. A transaction is an acknowledged write.
type PGBenchResult struct {
	Result
	Failed             int64   `json:"failed"`  // transactions
	Aborted            int     `json:"aborted"` // clients that pgbench gave up
	TransactionsSecond float64 `json:"transactions_per_second"`
}

const pgbenchPath = "/usr/lib/postgresql/current/bin/pgbench"

// PGBench is a running pgbench.
type PGBench struct {
	cfg     PGBenchConfig
	cmd     *exec.Cmd
	started chan struct{} // closed at pgbench's first line of progress
	ended   chan error    // how pgbench ended, once

	mu     sync.Mutex
	out    bytes.Buffer
	errors []string
	tps    float64
}

// StartPGBench makes pgbench's tables and starts it. It returns when transactions flow. The context covers the start only.
func StartPGBench(ctx context.Context, cfg PGBenchConfig) (*PGBench, error) {
	cfg.Clients, cfg.Scale = orDefault(cfg.Clients, 4), orDefault(cfg.Scale, 1)
	b := &PGBench{cfg: cfg, started: make(chan struct{}), ended: make(chan error, 1)}
	server, err := PGConfig{Dialer: cfg.Dialer, Addr: cfg.Addr}.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("pgbench: %w", err)
	}
	_ = server.Close(ctx)
	prepare, err := b.command(ctx, "--initialize", "--quiet", "--scale="+strconv.Itoa(cfg.Scale))
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	prepare.Stdout, prepare.Stderr = &said, &said
	if err := cfg.Dialer.Start(prepare); err != nil {
		return nil, fmt.Errorf("pgbench: %w", err)
	}
	if err := prepare.Wait(); err != nil {
		return nil, fmt.Errorf("pgbench: make the tables: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	// It is ended by a signal, so the duration only has to be long enough.
	args := []string{"--no-vacuum", "--protocol=prepared", "--progress=1", "--time=864000", "--client=" + strconv.Itoa(cfg.Clients)}
	if cfg.Rate > 0 {
		args = append(args, "--rate="+strconv.FormatFloat(cfg.Rate, 'f', -1, 64))
	}
	if b.cmd, err = b.command(context.WithoutCancel(ctx), args...); err != nil {
		return nil, err
	}
	if err := b.start(); err != nil {
		return nil, err
	}
	select {
	case <-b.started:
		return b, nil
	case err := <-b.ended:
		return nil, fmt.Errorf("pgbench: %w: %s", err, strings.Join(b.errors, "; "))
	case <-ctx.Done():
		_ = b.cmd.Process.Kill()
		<-b.ended
		return nil, fmt.Errorf("pgbench: %w", ctx.Err())
	}
}

// command runs pgbench from the root, as nobody.
func (b *PGBench) command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	host, port, err := net.SplitHostPort(b.cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("pgbench: address %q: %w", b.cfg.Addr, err)
	}
	args = append(args, "--host="+host, "--port="+port, "--username=postgres", "postgres")
	cmd := exec.CommandContext(ctx, pgbenchPath, args...)
	cmd.Env = []string{"LC_ALL=C", "PGSSLMODE=disable", "HOME=/"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: b.cfg.Root, Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd, nil
}

func (b *PGBench) start() error {
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("pgbench: %w", err)
	}
	stderr, err := b.cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("pgbench: %w", err)
	}
	if err := b.cfg.Dialer.Start(b.cmd); err != nil {
		return fmt.Errorf("pgbench: %w", err)
	}
	var readers sync.WaitGroup
	readers.Go(func() { b.followProgress(stderr) })
	readers.Go(func() { _, _ = io.Copy(&b.out, stdout) })
	go func() {
		readers.Wait()
		b.ended <- b.cmd.Wait()
	}()
	return nil
}

// followProgress reads pgbench's progress and complaints.
func (b *PGBench) followProgress(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	flowing := false
	for lines.Scan() {
		line := lines.Text()
		b.mu.Lock()
		if rate, ok := progressOf(line); ok {
			b.tps = rate
			if !flowing && rate > 0 {
				flowing = true
				close(b.started)
			}
		} else if strings.Contains(line, "error:") || strings.Contains(line, "FATAL") {
			b.errors = append(b.errors, line)
		}
		b.mu.Unlock()
	}
}

// TransactionsSecond returns the rate of the last whole second.
func (b *PGBench) TransactionsSecond() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tps
}

// Stop has pgbench end as if its time were over, and returns what it reports. When the context ends before, it is killed.
// An error means that there is no report.
func (b *PGBench) Stop(ctx context.Context) (PGBenchResult, error) {
	// pgbench's own clock for --time is SIGALRM.
	if err := b.cmd.Process.Signal(syscall.SIGALRM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return PGBenchResult{}, fmt.Errorf("pgbench: end it: %w", err)
	}
	var status error
	select {
	case status = <-b.ended:
	case <-ctx.Done():
		_ = b.cmd.Process.Kill()
		<-b.ended
		return PGBenchResult{}, fmt.Errorf("pgbench: it did not end: %w", ctx.Err())
	}
	result, err := parsePGBench(b.out.String())
	if err != nil {
		return PGBenchResult{}, errors.Join(err, status, errors.New(strings.Join(b.errors, "\n")))
	}
	result.ConnectionsBefore = b.cfg.Clients
	for _, line := range b.errors {
		result.fail(errors.New(line))
		if strings.Contains(line, "aborted") {
			result.Aborted++
		}
	}
	if status != nil && result.Errors == 0 {
		result.fail(status)
	}
	result.Errors += result.Failed
	result.ConnectionsAfter = max(b.cfg.Clients-result.Aborted, 0)
	return result, nil
}

// progressOf reads the rate from a line like "progress: 1.0 s, 98.0 tps, lat 1.0 ms stddev 0.1, 0 failed".
func progressOf(line string) (float64, bool) {
	match := regexp.MustCompile(`^progress: [0-9.]+ s, ([0-9.]+) tps`).FindStringSubmatch(line)
	if match == nil {
		return 0, false
	}
	rate, err := strconv.ParseFloat(match[1], 64)
	return rate, err == nil
}

// parsePGBench reads the report that pgbench ends with.
func parsePGBench(report string) (PGBenchResult, error) {
	var result PGBenchResult
	for _, field := range []struct {
		pattern string
		into    func(text string) error
	}{
		{`(?m)^number of transactions actually processed: (\d+)`, intInto(&result.AckedWrites)},
		{`(?m)^number of failed transactions: (\d+)`, intInto(&result.Failed)},
		{`(?m)^tps = ([0-9.]+)`, func(text string) (err error) {
			result.TransactionsSecond, err = strconv.ParseFloat(text, 64)
			return err
		}},
	} {
		match := regexp.MustCompile(field.pattern).FindStringSubmatch(report)
		if match == nil {
			return result, fmt.Errorf("pgbench: its report lacks %q: %q", field.pattern, report)
		}
		if err := field.into(match[1]); err != nil {
			return result, fmt.Errorf("pgbench: read its report: %w", err)
		}
	}
	return result, nil
}

func intInto(to *int64) func(string) error {
	return func(text string) (err error) {
		*to, err = strconv.ParseInt(text, 10, 64)
		return err
	}
}

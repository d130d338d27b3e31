package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"drydock/lab/images"
	"drydock/lab/load"
	"drydock/lab/selfcheck"
)

// user uses a pod from outside while it moves, and keeps the books.
type user interface {
	// blackout is the longest time in the window that a client waited for an answer.
	blackout(from, to time.Time) time.Duration
	// acked counts the writes that were acknowledged so far.
	acked() int64
	// check says what is wrong already while all goes on.
	check(ctx context.Context) []string
	// stop ends the clients and says what they found. An error means that this cannot be told.
	stop(ctx context.Context) (findings, error)
}

// findings are what clients found, and how much they asked for.
type findings struct {
	load.Result
	requests, failedTransactions int64
	// clockStepsBack is what a program in the pod saw itself.
	clockStepsBack int
}

const (
	redisConnections, redisRate     = 20, 1000 // writes a second
	postgresConnections, commitRate = 4, 200   // commits a second
	benchClients, benchRate         = 4, 40    // transactions a second
)

// What services on emulated processors are asked for, each by two kinds of clients.
const (
	gentleConnections, gentleRate = 4, 10
	gentlePause                   = 20 * time.Millisecond // of probes
)

// downloadRate lets the one download of nginx's file take about half a minute.
const downloadRate = "1m"

type redisUser struct {
	*load.RedisWriters
	probe *load.Probe
}

func useRedis(ctx context.Context, s *scene, addr string) (user, error) {
	return startRedisUser(ctx, load.RedisConfig{
		Dialer: s.client, Addr: addr, Connections: redisConnections, Rate: redisRate, ValueSize: 512, Fill: true,
	}, 0)
}

func useRedisGently(ctx context.Context, s *scene, addr string) (user, error) {
	return startRedisUser(ctx, load.RedisConfig{
		Dialer: s.client, Addr: addr, Connections: gentleConnections, Rate: gentleRate, ValueSize: 512, Fill: true,
	}, gentlePause)
}

func startRedisUser(ctx context.Context, cfg load.RedisConfig, pause time.Duration) (user, error) {
	writers, err := load.StartRedisWriters(ctx, cfg)
	if err != nil {
		return nil, err
	}
	probe, err := load.StartProbe(ctx, load.ProbeConfig{Dialer: cfg.Dialer, Addr: cfg.Addr, Interval: pause})
	return redisUser{writers, probe}, err
}

func (u redisUser) blackout(from, to time.Time) time.Duration { return u.probe.Blackout(from, to) }
func (u redisUser) acked() int64                              { return u.Acked() }
func (u redisUser) check(context.Context) []string            { return nil }

func (u redisUser) stop(ctx context.Context) (findings, error) {
	result, err := u.Stop(ctx)
	return findings{Result: both(result, u.probe.Stop()), requests: result.AckedWrites + u.probe.Answers()}, err
}

type postgresUser struct {
	*load.PGWriters
	bench *load.PGBench
}

func usePostgres(ctx context.Context, s *scene, addr string) (user, error) {
	return startPostgresUser(ctx, s, load.PGConfig{Addr: addr, Connections: postgresConnections, Rate: commitRate},
		load.PGBenchConfig{Addr: addr, Clients: benchClients, Rate: benchRate})
}

func usePostgresGently(ctx context.Context, s *scene, addr string) (user, error) {
	return startPostgresUser(ctx, s, load.PGConfig{Addr: addr, Connections: gentleConnections, Rate: gentleRate},
		load.PGBenchConfig{Addr: addr, Clients: gentleConnections, Rate: gentleRate})
}

func startPostgresUser(ctx context.Context, s *scene, writes load.PGConfig, benched load.PGBenchConfig) (user, error) {
	writes.Dialer, benched.Dialer, benched.Root = s.client, s.client, s.set.Root()
	writers, err := load.StartPGWriters(ctx, writes)
	if err != nil {
		return nil, err
	}
	bench, err := load.StartPGBench(ctx, benched)
	return postgresUser{writers, bench}, err
}

func (u postgresUser) blackout(from, to time.Time) time.Duration { return u.Blackout(from, to) }
func (u postgresUser) acked() int64                              { return u.Acked() }
func (u postgresUser) check(context.Context) []string            { return nil }

func (u postgresUser) stop(ctx context.Context) (findings, error) {
	benched, berr := u.bench.Stop(ctx)
	if berr == nil && benched.AckedWrites == 0 {
		berr = errors.New("pgbench made no transaction")
	}
	result, err := u.Stop(ctx)
	return findings{
		Result: both(result, benched.Result), requests: result.AckedWrites + benched.AckedWrites, failedTransactions: result.Errors + benched.Failed,
	}, errors.Join(err, berr)
}

type nginxUser struct {
	download *load.Download
	probe    *load.Probe
}

// aliveAnswer is what nginx says to the probe; the date differs from time to time.
const aliveAnswer = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: " +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\r\nContent-Type: application/octet-stream\r\nContent-Length: 6\r\nConnection: keep-alive\r\n\r\nalive\n"

func useNginx(ctx context.Context, s *scene, addr string) (user, error) {
	download, err := load.StartDownload(ctx, load.DownloadConfig{
		Dialer: s.client, URL: "http://" + addr + "/data.bin?rate=" + downloadRate, SHA256: images.DataSHA256(),
	})
	if err != nil {
		return nil, err
	}
	probe, err := load.StartProbe(ctx, load.ProbeConfig{
		Dialer: s.client, Addr: addr, Ask: []byte("GET /alive HTTP/1.1\r\nHost: nginx\r\n\r\n"), Answer: []byte(aliveAnswer),
	})
	return nginxUser{download, probe}, err
}

func (u nginxUser) blackout(from, to time.Time) time.Duration { return u.probe.Blackout(from, to) }
func (u nginxUser) acked() int64                              { return 0 }
func (u nginxUser) check(context.Context) []string            { return nil }

func (u nginxUser) stop(ctx context.Context) (findings, error) {
	download := u.download.Stop(ctx)
	return findings{Result: both(download.Result, u.probe.Stop()), requests: int64(download.Files) + u.probe.Answers()}, nil
}

type workbenchUser struct {
	client *selfcheck.Client
	probe  *load.Probe
	shared string
	asked  map[string]bool // checks that were reported as failed
}

func useWorkbench(ctx context.Context, s *scene, addr string) (user, error) {
	client, err := selfcheck.Dial(ctx, s.client.DialContext, addr)
	if err != nil {
		return nil, err
	}
	probe, err := load.StartProbe(ctx, load.ProbeConfig{
		Dialer: s.client, Addr: addr, Ask: []byte(selfcheck.Ask), Answer: []byte(selfcheck.Answer),
	})
	return &workbenchUser{client, probe, s.rig.SharedDir(), make(map[string]bool)}, err
}

func (u *workbenchUser) blackout(from, to time.Time) time.Duration { return u.probe.Blackout(from, to) }
func (u *workbenchUser) acked() int64                              { return 0 }

// check has the program check itself, and looks for signs of a second copy.
func (u *workbenchUser) check(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	report, err := u.client.Check(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	for _, failed := range report.Failed() {
		if !u.asked[failed.Name] {
			u.asked[failed.Name] = true
			wrong = append(wrong, failed.Name+": "+failed.Detail)
		}
	}
	if report.Generation.Violations > 0 {
		wrong = append(wrong, fmt.Sprintf("a second copy ran: seen %d times", report.Generation.Violations))
	}
	return wrong
}

func (u *workbenchUser) stop(ctx context.Context) (findings, error) {
	result := load.Result{ConnectionsBefore: 1, ConnectionsAfter: 1}
	if wrong := u.check(ctx); len(wrong) > 0 {
		result.Errors, result.FirstError = int64(len(wrong)), wrong[0]
	}
	generation, err := selfcheck.ReadGeneration(u.shared)
	if err == nil && generation.Counter == 0 {
		err = errors.New("the program has left no sign of life on the shared volume")
	}
	return findings{Result: both(result, u.probe.Stop()), requests: u.probe.Answers()}, errors.Join(err, u.client.Close())
}

// serviceUser uses the self-checking program as a service that has no directory in common with others.
type serviceUser struct{ *workbenchUser }

func useService(ctx context.Context, s *scene, addr string) (user, error) {
	client, err := selfcheck.Dial(ctx, s.client.DialContext, addr)
	if err != nil {
		return nil, err
	}
	probe, err := load.StartProbe(ctx, load.ProbeConfig{
		Dialer: s.client, Addr: addr, Ask: []byte(selfcheck.Ask), Answer: []byte(selfcheck.Answer), Interval: gentlePause,
	})
	return serviceUser{&workbenchUser{client: client, probe: probe, asked: make(map[string]bool)}}, err
}

func (u serviceUser) stop(ctx context.Context) (findings, error) {
	result := load.Result{ConnectionsBefore: 1, ConnectionsAfter: 1}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	report, err := u.client.Check(ctx)
	if err != nil {
		result.ConnectionsAfter, result.Errors, result.FirstError = 0, 1, err.Error()
	}
	found := findings{}
	for _, failed := range report.Failed() {
		result.Errors++
		result.FirstError = cmp.Or(result.FirstError, failed.Name+": "+failed.Detail)
		if failed.Name == selfcheck.Clocks {
			found.clockStepsBack++
		}
	}
	found.Result, found.requests = both(result, u.probe.Stop()), u.probe.Answers()
	return found, u.client.Close()
}

// both adds two results up.
func both(a, b load.Result) load.Result {
	a.ConnectionsBefore += b.ConnectionsBefore
	a.ConnectionsAfter += b.ConnectionsAfter
	a.AckedWritesLost += b.AckedWritesLost
	a.AckedWrites += b.AckedWrites
	a.Errors += b.Errors
	if a.FirstError == "" {
		a.FirstError = b.FirstError
	}
	return a
}

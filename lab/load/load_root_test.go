//go:build root

package load

import (
	"bytes"
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"drydock/lab/images"
	"drydock/lab/internal/testnet"
)

// cacheDir is the cache that the lab uses as well, so that a test does not make what is there.
const cacheDir = "/var/cache/drydock/images"

// service is a service of an image, run bare in a namespace.
type service struct {
	Dialer
	set  images.Set
	stop func()
}

func startService(t *testing.T, image string, args ...string) *service {
	t.Helper()
	set, err := images.Build(t.Context(), cacheDir, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	s := &service{Dialer: Dialer{Netns: testnet.New(t)}, set: set}
	cmd, err := set.Bare(context.Background(), image, t.TempDir(), args...)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := s.Start(cmd); err != nil {
		t.Fatal(err)
	}
	s.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", image, out.String())
		}
	})
	t.Cleanup(s.stop)
	return s
}

// await waits until the service listens.
func (s *service) await(t *testing.T, addr string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		conn, err := s.DialContext(t.Context(), "tcp", addr)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

const (
	redisAddr    = "127.0.0.1:6379"
	postgresAddr = "127.0.0.1:5432"
	nginxAddr    = "127.0.0.1:8080"
)

func TestEveryAcknowledgedRedisWriteIsFoundAgain(t *testing.T) {
	redis := startService(t, images.Redis)
	redis.await(t, redisAddr)
	writers, err := StartRedisWriters(t.Context(), RedisConfig{
		Dialer: redis.Dialer, Addr: redisAddr, Connections: 5, Rate: 2000, Keys: 200, ValueSize: 4096, Fill: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ports, err := redis.Connections(netip.MustParseAddrPort(redisAddr))
	if err != nil || len(ports) != 5 {
		t.Errorf("the kernel knows the connections %v, want 5: %v", ports, err)
	}
	time.Sleep(time.Second)
	result, err := writers.Stop(t.Context())
	if err != nil || !result.Flawless() {
		t.Fatalf("got %+v, %v", result, err)
	}
	if result.ConnectionsAfter != 5 || result.AckedWrites <= 2000 {
		t.Errorf("got %+v, want 5 connections and more writes than the filling made", result)
	}
}

func TestALostRedisWriteIsReported(t *testing.T) {
	redis := startService(t, images.Redis)
	redis.await(t, redisAddr)
	writers, err := StartRedisWriters(t.Context(), RedisConfig{Dialer: redis.Dialer, Addr: redisAddr, Connections: 2, Keys: 8, Fill: true})
	if err != nil {
		t.Fatal(err)
	}
	_ = writers.writers[1].conn.Close()
	conn, err := dialRESP(t.Context(), redis.Dialer, redisAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, _, err := conn.do("SET", writers.writers[1].counter(), "3"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := conn.do("SETRANGE", writers.writers[1].key(5), "40", "changed"); err != nil {
		t.Fatal(err)
	}
	result, err := writers.Stop(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if result.ConnectionsAfter != 1 || result.Errors != 1 || result.AckedWritesLost < 6 {
		t.Errorf("got %+v, want one connection lost and at least 6 writes", result)
	}
}

func TestAProbeSeesASilenceAndALostConnection(t *testing.T) {
	redis := startService(t, images.Redis)
	redis.await(t, redisAddr)
	probe, err := StartProbe(t.Context(), ProbeConfig{Dialer: redis.Dialer, Addr: redisAddr})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dialRESP(t.Context(), redis.Dialer, redisAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	from := time.Now()
	time.Sleep(200 * time.Millisecond)
	calm := probe.Blackout(from, time.Now())
	if _, _, err := conn.do("CLIENT", "PAUSE", "300", "ALL"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	paused := probe.Blackout(from, time.Now())
	t.Logf("longest silence of a calm server %v, of one paused for 300 ms %v", calm, paused)
	if paused < 250*time.Millisecond || calm >= paused {
		t.Errorf("the silence is %v without a pause and %v with one of 300 ms", calm, paused)
	}
	if probe.Lost() != 0 {
		t.Error("a pause counts as a lost connection")
	}
	if _, _, err := conn.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	for !probe.Last().After(killed.Add(100 * time.Millisecond)) {
		time.Sleep(time.Millisecond)
	}
	if result := probe.Stop(); result.ConnectionsAfter != 0 || result.Errors != 1 {
		t.Errorf("got %+v, want the connection lost once", result)
	}
}

func TestAProbeThatMayRedialKeepsAConnectionThatOnlyPaused(t *testing.T) {
	redis := startService(t, images.Redis)
	redis.await(t, redisAddr)
	probe, err := StartProbe(t.Context(), ProbeConfig{Dialer: redis.Dialer, Addr: redisAddr, RedialAfter: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dialRESP(t.Context(), redis.Dialer, redisAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, _, err := conn.do("CLIENT", "PAUSE", "300", "ALL"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(600 * time.Millisecond)
	if result := probe.Stop(); !result.Flawless() || result.ConnectionsAfter != 1 {
		t.Errorf("got %+v, want the connection kept", result)
	}
}

func TestEveryAcknowledgedCommitIsFoundAgainAndPGBenchFailsNothing(t *testing.T) {
	postgres := startService(t, images.Postgres)
	postgres.await(t, postgresAddr)
	ctx := t.Context()
	writers, err := StartPGWriters(ctx, PGConfig{Dialer: postgres.Dialer, Addr: postgresAddr, Connections: 3, Rate: 100})
	if err != nil {
		t.Fatal(err)
	}
	bench, err := StartPGBench(ctx, PGBenchConfig{Dialer: postgres.Dialer, Root: postgres.set.Root(), Addr: postgresAddr, Clients: 3, Rate: 50})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	benched, err := bench.Stop(ctx)
	if err != nil || !benched.Flawless() || benched.ConnectionsAfter != 3 || benched.AckedWrites == 0 {
		t.Errorf("pgbench: got %+v, %v", benched, err)
	}
	result, err := writers.Stop(ctx)
	if err != nil || !result.Flawless() || result.ConnectionsAfter != 3 || result.AckedWrites == 0 {
		t.Errorf("writers: got %+v, %v", result, err)
	}
	t.Logf("pgbench %+v, writers %+v", benched, result)
}

func TestPGBenchReportsClientsThatLostTheServer(t *testing.T) {
	postgres := startService(t, images.Postgres)
	postgres.await(t, postgresAddr)
	bench, err := StartPGBench(t.Context(), PGBenchConfig{Dialer: postgres.Dialer, Root: postgres.set.Root(), Addr: postgresAddr, Clients: 2, Rate: 50})
	if err != nil {
		t.Fatal(err)
	}
	postgres.stop()
	for len(bench.ended) == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	result, err := bench.Stop(t.Context())
	if err == nil && (result.ConnectionsAfter != 0 || result.Errors == 0) {
		t.Errorf("got %+v, want both clients lost", result)
	}
}

func TestADownloadOverOneConnectionHasTheRightChecksum(t *testing.T) {
	nginx := startService(t, images.Nginx)
	nginx.await(t, nginxAddr)
	cfg := DownloadConfig{Dialer: nginx.Dialer, URL: "http://" + nginxAddr + "/data.bin?rate=32m", SHA256: images.DataSHA256()}
	download, err := StartDownload(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	result := download.Stop(t.Context())
	if !result.Flawless() || result.Files == 0 || result.Bytes != int64(result.Files)*images.DataSize {
		t.Errorf("got %+v", result)
	}
	cfg.URL = "http://" + nginxAddr + "/data.bin?rate=1m"
	if download, err = StartDownload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	nginx.stop()
	result = download.Stop(t.Context())
	if result.ConnectionsAfter != 0 || result.Broken != 1 || result.Errors != 1 {
		t.Errorf("got %+v after the server's end, want a broken download", result)
	}
}

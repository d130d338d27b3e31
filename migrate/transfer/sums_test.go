package transfer

import (
	"bytes"
	"crypto/tls"
	"errors"
	"hash/crc32"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// received sends images and returns the sums of what was sent, and the directory that they lie in.
func received(t *testing.T, images map[string][]byte) (map[string]Sums, string) {
	t.Helper()
	from := t.TempDir()
	for name, data := range images {
		path := filepath.Join(from, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	ours, theirs := pipes(t, 2)
	in, dir := receiver(t)
	group := new(errgroup.Group)
	for _, conn := range theirs {
		group.Go(func() error { return in.Receive(conn) })
	}
	written := make(chan struct{})
	close(written)
	sender := NewImageSender(from, ours)
	if _, err := sender.Send(t.Context(), written); err != nil {
		t.Fatal(err)
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return sender.Sums(), dir
}

func TestWhatBecomesOfAnImageAfterItArrivedIsFound(t *testing.T) {
	pages := bytes.Repeat([]byte("page"), 700_000)
	path := func(dir string) string { return filepath.Join(dir, "c/pages-1.img") }
	flip := func(offset int64) func(string) error {
		return func(dir string) error {
			file, err := os.OpenFile(path(dir), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = file.WriteAt([]byte{0}, offset)
			return errors.Join(err, file.Close())
		}
	}
	for name, c := range map[string]struct {
		damage func(dir string) error
		says   string
	}{
		"nothing":             {func(string) error { return nil }, ""},
		"a byte at its begin": {flip(0), "c/pages-1.img: the image is damaged: bytes 0 to 1048576"},
		"a byte at its end":   {flip(int64(len(pages)) - 1), "bytes 2097152 to 2800000"},
		"cut within a part":   {func(dir string) error { return os.Truncate(path(dir), 2_500_000) }, "bytes 2097152 to 2500000"},
		"cut by whole parts":  {func(dir string) error { return os.Truncate(path(dir), 1<<20) }, "it has 1048576 bytes"},
		"grown":               {func(dir string) error { return os.Truncate(path(dir), 1<<22) }, "it has 4194304 bytes"},
		"gone":                {func(dir string) error { return os.Remove(path(dir)) }, "no such file"},
		"inventory": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "c/inventory.img"+Arrived), []byte("x"), 0o600)
		}, "c/inventory.img"},
		"an empty image grown": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "c/empty.img"), []byte("x"), 0o600) }, "c/empty.img"},
		"inventory in its place": {func(dir string) error {
			return os.Rename(filepath.Join(dir, "c/inventory.img"+Arrived), filepath.Join(dir, "c/inventory.img"))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			sums, dir := received(t, map[string][]byte{"c/pages-1.img": pages, "c/inventory.img": []byte("inventory"), "c/empty.img": nil})
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			err := VerifyImages(t.Context(), dir, sums)
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// BenchmarkSumsOfImages says how much processor time the sums take at each end, as a part of what an encrypted transfer from
// memory to memory takes there. All is measured in the same run.
func BenchmarkSumsOfImages(b *testing.B) {
	const size = 256 << 20
	from, err := os.MkdirTemp("/dev/shm", "drydock-bench-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(from)
	data := bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, size/8)
	if err := os.WriteFile(filepath.Join(from, "pages-1.img"), data, 0o600); err != nil {
		b.Fatal(err)
	}
	to, err := os.MkdirTemp("/dev/shm", "drydock-bench-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(to)
	var sent, summed, verified time.Duration
	for b.Loop() {
		start := spent(b)
		sums := sendEncrypted(b, from, to)
		sent += spent(b) - start
		start = spent(b)
		if err := VerifyImages(b.Context(), to, sums); err != nil {
			b.Fatal(err)
		}
		verified += spent(b) - start
		start = spent(b)
		for offset := 0; offset < size; offset += partSize {
			crc32.Checksum(data[offset:offset+partSize], castagnoli)
		}
		summed += spent(b) - start
	}
	oneEnd := (sent - summed).Seconds() / 2 // the source's sums are part of it
	b.ReportMetric(summed.Seconds()/oneEnd*100, "%-of-transfer-at-source")
	b.ReportMetric(verified.Seconds()/oneEnd*100, "%-of-transfer-at-destination")
}

// spent is the processor time that this process has used.
func spent(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// sendEncrypted sends images over two connections as a migration does.
func sendEncrypted(b *testing.B, from, to string) map[string]Sums {
	b.Helper()
	credentials := httptest.NewUnstartedServer(nil)
	credentials.StartTLS()
	defer credentials.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: credentials.TLS.Certificates, MinVersion: tls.VersionTLS13})
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	in, err := NewImageReceiver(to)
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	group := new(errgroup.Group)
	var ours []net.Conn
	for range 2 {
		group.Go(func() error {
			theirs, err := listener.Accept()
			if err != nil {
				return err
			}
			return errors.Join(in.Receive(theirs), theirs.Close())
		})
		conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		ours = append(ours, conn)
	}
	written := make(chan struct{})
	close(written)
	sender := NewImageSender(from, ours)
	if _, err := sender.Send(b.Context(), written); err != nil {
		b.Fatal(err)
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	return sender.Sums()
}

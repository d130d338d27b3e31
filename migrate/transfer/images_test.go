package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
)

// pipes connects a sender and a receiver by n connections.
func pipes(t *testing.T, n int) (ours, theirs []net.Conn) {
	t.Helper()
	for range n {
		a, b := net.Pipe()
		t.Cleanup(func() { _, _ = a.Close(), b.Close() })
		ours, theirs = append(ours, a), append(theirs, b)
	}
	return ours, theirs
}

func receiver(t *testing.T) (*ImageReceiver, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "in")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := NewImageReceiver(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r, dir
}

func TestImagesArriveWholeWhileTheyAreStillWritten(t *testing.T) {
	from := t.TempDir()
	pages := bytes.Repeat([]byte("page"), 900_000)
	first := len(pages) / 2
	write := func(name string, data []byte) {
		t.Helper()
		path := filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_, err = file.Write(data)
		if err = errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
	}
	write("c/pages-1.img", pages[:first])
	ours, theirs := pipes(t, 2)
	in, dir := receiver(t)
	group := new(errgroup.Group)
	for _, conn := range theirs {
		group.Go(func() error { return in.Receive(conn) })
	}
	written := make(chan struct{})
	sender := NewImageSender(from, ours)
	var sizes map[string]int64
	group.Go(func() (err error) { sizes, err = sender.Send(t.Context(), written); return err })
	write("c/pages-1.img", pages[first:])
	write("c/core-1.img", []byte("core"))
	write("c/empty.img", nil)
	close(written)
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := in.Missing(sizes); err != nil {
		t.Error(err)
	}
	for name, want := range map[string][]byte{"c/pages-1.img": pages, "c/core-1.img": []byte("core"), "c/empty.img": nil} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(want), err)
		}
	}
	if sender.Bytes() != int64(len(pages)+4) || in.Bytes() != sender.Bytes() {
		t.Errorf("%d bytes sent, %d received", sender.Bytes(), in.Bytes())
	}
}

func TestNamesThatLeadOutsideOrMakeNoSenseAreRefused(t *testing.T) {
	in, dir := receiver(t)
	outside := filepath.Join(filepath.Dir(dir), "outside")
	if err := os.Symlink("..", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []part{
		{"../outside", 0, 1}, {"a/../../outside", 0, 1}, {outside, 0, 1}, {"link/outside", 0, 1}, {"..", 0, 1}, {".", 0, 1},
		{"a", -1, 1}, {"a", 0, -1},
	} {
		a, b := net.Pipe()
		go func() {
			_ = WriteMessage(a, p)
			_, _ = a.Write([]byte("x"))
			_, _ = io.Copy(io.Discard, a)
		}()
		go func() { _, _ = io.Copy(io.Discard, a) }()
		err := in.Receive(b)
		_, _ = a.Close(), b.Close()
		if err == nil {
			t.Errorf("%+v was taken", p)
		}
		if _, err := os.Lstat(outside); err == nil {
			t.Fatalf("%+v was written outside", p)
		}
	}
}

func TestAConnectionThatIsCutIsAnErrorOnBothSides(t *testing.T) {
	from := t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "pages-1.img"), make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	in, _ := receiver(t)
	ours, theirs := pipes(t, 1)
	received := make(chan error, 1)
	go func() { received <- in.Receive(&cutConn{Conn: theirs[0], after: 1 << 20}) }()
	group := new(errgroup.Group)
	group.Go(func() error {
		_, err := NewImageSender(from, ours).Send(t.Context(), make(chan struct{}))
		return err
	})
	if err := group.Wait(); err == nil || !strings.Contains(err.Error(), "send images") {
		t.Errorf("the sender: %v", err)
	}
	_ = ours[0].Close()
	if err := <-received; err == nil {
		t.Error("the receiver took it for whole")
	}
	if err := in.Missing(map[string]int64{"pages-1.img": 4 << 20}); err == nil || !strings.Contains(err.Error(), "pages-1.img") {
		t.Errorf("what is missing: %v", err)
	}
}

// cutConn is cut when a number of bytes have been read from it.
type cutConn struct {
	net.Conn
	after int
}

func (c *cutConn) Read(b []byte) (int, error) {
	if c.after <= 0 {
		return 0, errors.Join(io.ErrUnexpectedEOF, c.Close())
	}
	n, err := c.Conn.Read(b)
	c.after -= n
	return n, err
}

func TestASenderWhoseOtherSideIsSilentEndsWithItsContext(t *testing.T) {
	from := t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "core-1.img"), []byte("core"), 0o600); err != nil {
		t.Fatal(err)
	}
	ours, _ := pipes(t, 2)
	written := make(chan struct{})
	close(written)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewImageSender(from, ours).Send(ctx, written); err == nil {
		t.Error("no error")
	}
}

func TestWhatTheOtherSideSaysWentWrongIsTheSendersError(t *testing.T) {
	ours, theirs := pipes(t, 1)
	written := make(chan struct{})
	close(written)
	go func() {
		var p part
		_ = ReadMessage(theirs[0], &p)
		_ = WriteMessage(theirs[0], Answer{Error: "no space left"})
	}()
	_, err := NewImageSender(t.TempDir(), ours).Send(t.Context(), written)
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v", err)
	}
}

func TestMessagesOfAnEarlierVersionAreReadAndLongerOnesThanAllowedAreNot(t *testing.T) {
	recorded := "\x00\x00\x00\x32" + `{"migration":"m1","kind":"files","name":"db/logs"}`
	var hello Hello
	if err := ReadMessage(strings.NewReader(recorded), &hello); err != nil || hello != (Hello{"m1", Files, "db/logs"}) {
		t.Errorf("got %+v, %v", hello, err)
	}
	var out bytes.Buffer
	if err := WriteMessage(&out, hello); err != nil || out.String() != recorded {
		t.Errorf("an earlier version would read %q, %v", out.String(), err)
	}
	newer := "\x00\x00\x00\x26" + `{"migration":"m1","kind":"x","new":{}}` + "rest"
	rest := strings.NewReader(newer)
	if err := ReadMessage(rest, &hello); err != nil || hello.Kind != "x" || rest.Len() != 4 {
		t.Errorf("newer: %+v, %v, %d bytes left", hello, err, rest.Len())
	}
	for _, bad := range []string{"", "\x00", "\x00\x00\x00\x05{}", "\x7f\xff\xff\xff", "\x00\x00\x00\x01{"} {
		if err := ReadMessage(strings.NewReader(bad), &hello); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestWhatIsCompleteIsSentBeforeTheEnd(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(from, "web.round-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"web.round-1/pages-1.img": "pages", "web.round-1/empty.img": "", "web.log": "not complete"} {
		if err := os.WriteFile(filepath.Join(from, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ours, theirs := pipes(t, 1)
	receiver, err := NewImageReceiver(to)
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.Close()
	received := make(chan error, 1)
	go func() { received <- receiver.Receive(theirs[0]) }()
	sender, written, sent := NewImageSender(from, ours), make(chan struct{}), make(chan error, 1)
	var sizes map[string]int64
	go func() {
		var err error
		sizes, err = sender.Send(t.Context(), written)
		sent <- err
	}()
	if err := sender.Flush(t.Context(), "web.round-1"); err != nil {
		t.Fatal(err)
	}
	if got := sender.Bytes(); got != 5 {
		t.Errorf("%d bytes were sent, not 5", got)
	}
	if _, err := os.Stat(filepath.Join(to, "web.log")); err == nil {
		t.Error("a file outside of what was flushed was sent")
	}
	close(written)
	if err := errors.Join(<-sent, <-received); err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"web.round-1/pages-1.img": 5, "web.round-1/empty.img": 0, "web.log": 12}
	if diff := cmp.Diff(want, sizes); diff != "" {
		t.Error(diff)
	}
	if err := receiver.Missing(sizes); err != nil {
		t.Error(err)
	}
	if err := VerifyImages(t.Context(), to, sender.Sums()); err != nil {
		t.Error(err)
	}
	if err := sender.Flush(canceled(t), "web.round-1"); err == nil {
		t.Error("a sender that has ended flushed")
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

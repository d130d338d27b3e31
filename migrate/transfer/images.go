package transfer

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// part is a piece of an image file; Size bytes follow it. The part without a name ends a connection's work.
type part struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

const (
	// partSize is large enough to make a message's overhead small and small enough to keep all connections busy.
	partSize = 1 << 20
	// lookAgain is how often a directory that CRIU writes to is looked at.
	lookAgain = 3 * time.Millisecond
)

// ImageSender sends the files below a directory while they are being written. Files must only grow.
type ImageSender struct {
	root  string
	conns []net.Conn
	sent  map[string]int64
	flush chan flush
	// pending counts the parts that a connection has taken and not yet written.
	pending sync.WaitGroup
	sums    ledger
	bytes   atomic.Int64
}

// NewImageSender sends what lies below root over conns, which stay the caller's to close.
func NewImageSender(root string, conns []net.Conn) *ImageSender {
	return &ImageSender{root: root, conns: conns, sent: make(map[string]int64), flush: make(chan flush), sums: ledger{sums: make(map[string]Sums)}}
}

// Bytes sent so far.
func (s *ImageSender) Bytes() int64 { return s.bytes.Load() }

// Send follows the directory until written is closed, sends the rest, and returns when the other side has all of it.
// It returns the size of every file by its path below the root.
func (s *ImageSender) Send(ctx context.Context, written <-chan struct{}) (map[string]int64, error) {
	parts := make(chan part)
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() {
		for _, c := range s.conns {
			_ = c.SetDeadline(time.Unix(1, 0))
		}
	})
	defer stop()
	group.Go(func() error {
		defer close(parts)
		return s.follow(ctx, written, parts)
	})
	for _, conn := range s.conns {
		group.Go(func() error { return s.serve(conn, parts) })
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("send images: %w", err)
	}
	return s.sent, nil
}

// flush asks for what is below a directory.
type flush struct {
	dir  string
	done chan error
}

// Flush has a Send that runs send all that lies below dir, relative to the root, and returns when it has been written to the
// connections. The files there are complete: they are not looked at again.
func (s *ImageSender) Flush(ctx context.Context, dir string) error {
	f := flush{dir, make(chan error, 1)}
	select {
	case s.flush <- f:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-f.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Sums of all that was sent, by the files' paths below the root, once Send has returned.
func (s *ImageSender) Sums() map[string]Sums { return s.sums.sums }

func (s *ImageSender) follow(ctx context.Context, written <-chan struct{}, parts chan<- part) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-written:
			return s.collect(ctx, parts, "", true)
		case f := <-s.flush:
			err := s.collect(ctx, parts, f.dir, true)
			s.pending.Wait()
			f.done <- err
			if err != nil {
				return err
			}
		case <-tick.C:
			if err := s.collect(ctx, parts, "", false); err != nil {
				return err
			}
		}
	}
}

// collect hands out what has been written below dir since it last looked; before the end only the pages, and whole parts of
// them.
func (s *ImageSender) collect(ctx context.Context, parts chan<- part, dir string, all bool) error {
	return filepath.WalkDir(filepath.Join(s.root, dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(s.root, path)
		if err != nil {
			return err
		}
		if !all && !strings.HasPrefix(filepath.Base(name), "pages-") {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return nil
		}
		return s.hand(ctx, parts, name, info.Size(), all)
	})
}

func (s *ImageSender) hand(ctx context.Context, parts chan<- part, name string, size int64, all bool) error {
	first := true
	for offset := s.sent[name]; offset < size || all && first && size == 0; first = false {
		n := min(partSize, size-offset)
		if !all && n < partSize {
			break
		}
		s.pending.Add(1)
		select {
		case parts <- part{name, offset, n}:
		case <-ctx.Done():
			s.pending.Done()
			return ctx.Err()
		}
		offset += n
		s.sent[name] = offset
	}
	if all {
		s.sent[name] = size
	}
	return nil
}

func (s *ImageSender) serve(conn net.Conn, parts <-chan part) error {
	for p := range parts {
		err := s.send(conn, p)
		s.pending.Done()
		if err != nil {
			return err
		}
	}
	if err := WriteMessage(conn, part{}); err != nil {
		return err
	}
	var answer Answer
	if err := ReadMessage(conn, &answer); err != nil {
		return err
	}
	return answer.Err()
}

func (s *ImageSender) send(conn net.Conn, p part) error {
	file, err := os.Open(filepath.Join(s.root, p.Name))
	if err != nil {
		return err
	}
	defer file.Close()
	if err := WriteMessage(conn, p); err != nil {
		return err
	}
	sum := crc32.New(castagnoli)
	n, err := io.Copy(conn, io.TeeReader(io.NewSectionReader(file, p.Offset, p.Size), sum))
	s.bytes.Add(n)
	s.sums.note(p, sum.Sum32())
	if err == nil && n != p.Size {
		return fmt.Errorf("%s shrank while it was sent", p.Name)
	}
	return err
}

// Arrived is appended to the names of CRIU's inventory and runc's descriptors: under their own names lie what a restore that
// was started before they arrived waits for, and was told.
const Arrived = ".arrived"

// stored is the name under which an image is kept until the restore.
func stored(name string) string {
	switch filepath.Base(name) {
	case "inventory.img", "descriptors.json":
		return name + Arrived
	}
	return name
}

// ImageReceiver writes what an ImageSender sends below a directory.
type ImageReceiver struct {
	root  *os.Root
	bytes atomic.Int64
	mu    sync.Mutex
	dirs  map[string]bool
}

// NewImageReceiver writes below dir, which exists, and never outside it.
func NewImageReceiver(dir string) (*ImageReceiver, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("receive images: %w", err)
	}
	return &ImageReceiver{root: root, dirs: make(map[string]bool)}, nil
}

// Close lets the directory go.
func (r *ImageReceiver) Close() error { return r.root.Close() }

// Bytes received so far.
func (r *ImageReceiver) Bytes() int64 { return r.bytes.Load() }

// Receive takes one connection's share, and answers.
func (r *ImageReceiver) Receive(conn net.Conn) error {
	n, err := r.receive(conn)
	answer := Answer{Bytes: n}
	if err != nil {
		answer.Error = err.Error()
	}
	return errors.Join(err, WriteMessage(conn, answer))
}

func (r *ImageReceiver) receive(conn net.Conn) (total int64, err error) {
	for {
		var p part
		if err := ReadMessage(conn, &p); err != nil {
			return total, fmt.Errorf("receive images: %w", err)
		}
		if p.Name == "" {
			return total, nil
		}
		if err := r.take(conn, p); err != nil {
			return total, fmt.Errorf("receive image %s: %w", p.Name, err)
		}
		total += p.Size
	}
}

func (r *ImageReceiver) take(conn net.Conn, p part) error {
	if err := r.makeDir(filepath.Dir(p.Name)); err != nil {
		return err
	}
	file, err := r.root.OpenFile(stored(p.Name), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	n, err := io.Copy(io.NewOffsetWriter(file, p.Offset), io.LimitReader(conn, p.Size))
	r.bytes.Add(n)
	if err == nil && n != p.Size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (r *ImageReceiver) makeDir(dir string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if dir == "." || r.dirs[dir] {
		return nil
	}
	if err := r.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	r.dirs[dir] = true
	return nil
}

// Missing compares what has arrived with what was sent, and names the first difference.
func (r *ImageReceiver) Missing(sizes map[string]int64) error {
	for name, size := range sizes {
		info, err := r.root.Stat(stored(name))
		if err != nil {
			return fmt.Errorf("image %s has not arrived: %w", name, err)
		}
		if info.Size() != size {
			return fmt.Errorf("image %s has %d bytes, %d were sent", name, info.Size(), size)
		}
	}
	return nil
}

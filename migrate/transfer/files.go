package transfer

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"drydock/migrate/filesync"
)

// FileSender brings one directory tree over, pass by pass, on one connection.
type FileSender struct {
	source *filesync.Source
	conn   net.Conn
}

// NewFileSender sends the tree at dir; conn stays the caller's to close.
func NewFileSender(dir string, conn net.Conn) (*FileSender, error) {
	source, err := filesync.NewSource(dir)
	if err != nil {
		return nil, err
	}
	return &FileSender{source: source, conn: conn}, nil
}

// Close lets the tree go.
func (s *FileSender) Close() error { return s.source.Close() }

// Pass sends what has changed since the last one, and returns when the other side has it. A pass that failed cannot be
// followed by another.
func (s *FileSender) Pass(ctx context.Context, options filesync.PassOptions) (filesync.Stats, error) {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	framed := &frameWriter{w: bufio.NewWriterSize(s.conn, 256<<10)}
	stats, err := s.source.Pass(ctx, framed, options)
	if err := errors.Join(err, framed.end()); err != nil {
		return stats, err
	}
	var answer Answer
	if err := ReadMessage(s.conn, &answer); err != nil {
		return stats, err
	}
	return stats, answer.Err()
}

// ReceiveFiles applies passes to target until the connection ends, and answers each. It reports whether the last pass was
// whole, by way of the target.
func ReceiveFiles(ctx context.Context, conn net.Conn, target *filesync.Target) error {
	for {
		framed := &frameReader{r: conn}
		stats, err := target.Apply(ctx, framed)
		if err != nil && !framed.begun {
			return nil // the source has nothing more to send
		}
		if err == nil {
			err = framed.drain()
		}
		answer := Answer{Bytes: stats.Bytes}
		if err != nil {
			answer.Error = err.Error()
		}
		if err := errors.Join(err, WriteMessage(conn, answer)); err != nil {
			return fmt.Errorf("receive files: %w", err)
		}
	}
}

// frameWriter cuts a pass into frames, so that its end is known to a reader that reads ahead.
type frameWriter struct{ w *bufio.Writer }

func (f *frameWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(p)))
	if _, err := f.w.Write(head[:]); err != nil {
		return 0, err
	}
	return f.w.Write(p)
}

func (f *frameWriter) end() error {
	if _, err := f.w.Write(make([]byte, 4)); err != nil {
		return err
	}
	return f.w.Flush()
}

type frameReader struct {
	r     io.Reader
	left  uint32
	begun bool
	ended bool
}

func (f *frameReader) Read(p []byte) (int, error) {
	if f.left == 0 {
		if f.ended {
			return 0, io.EOF
		}
		var head [4]byte
		if _, err := io.ReadFull(f.r, head[:]); err != nil {
			return 0, err
		}
		f.begun = true
		if f.left = binary.BigEndian.Uint32(head[:]); f.left == 0 {
			f.ended = true
			return 0, io.EOF
		}
	}
	n, err := f.r.Read(p[:min(len(p), int(f.left))])
	f.left -= uint32(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// drain reads to the pass's end mark.
func (f *frameReader) drain() error {
	n, err := io.Copy(io.Discard, f)
	if err == nil && n > 0 {
		err = fmt.Errorf("%d bytes after the end of the pass", n)
	}
	return err
}

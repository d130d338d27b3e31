package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
)

// respConn speaks Redis's protocol on one TCP connection. It never connects again: after an error it is of no more use.
type respConn struct {
	net.Conn
	in  *bufio.Reader
	out *bufio.Writer
}

func dialRESP(ctx context.Context, dialer Dialer, addr string) (*respConn, error) {
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &respConn{Conn: conn, in: bufio.NewReaderSize(conn, 32<<10), out: bufio.NewWriterSize(conn, 32<<10)}, nil
}

// queue adds a command to what the next flush sends.
func (c *respConn) queue(args ...string) error {
	if _, err := fmt.Fprintf(c.out, "*%d\r\n", len(args)); err != nil {
		return err
	}
	for _, arg := range args {
		if _, err := fmt.Fprintf(c.out, "$%d\r\n%s\r\n", len(arg), arg); err != nil {
			return err
		}
	}
	return nil
}

func (c *respConn) flush() error { return c.out.Flush() }

// reply reads the next answer: a status, a number as text, or a string; found is false for a null. An error answer of the
// server is an error.
func (c *respConn) reply() (text string, found bool, err error) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return "", false, err
	}
	if len(line) < 3 {
		return "", false, fmt.Errorf("malformed answer %q", line)
	}
	body := line[1 : len(line)-2]
	switch line[0] {
	case '+', ':':
		return body, true, nil
	case '-':
		return "", false, fmt.Errorf("server answered %q", body)
	case '$':
		return c.bulk(body)
	}
	return "", false, fmt.Errorf("malformed answer %q", line)
}

func (c *respConn) bulk(length string) (string, bool, error) {
	size, err := strconv.Atoi(length)
	if err != nil || size < -1 || size > 512<<20 {
		return "", false, fmt.Errorf("malformed length %q", length)
	}
	if size == -1 {
		return "", false, nil
	}
	content := make([]byte, size+2)
	if _, err := io.ReadFull(c.in, content); err != nil {
		return "", false, err
	}
	return string(content[:size]), true, nil
}

// do sends one command and returns its answer.
func (c *respConn) do(args ...string) (string, bool, error) {
	if err := c.queue(args...); err != nil {
		return "", false, err
	}
	if err := c.flush(); err != nil {
		return "", false, err
	}
	return c.reply()
}

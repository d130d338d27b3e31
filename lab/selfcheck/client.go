package selfcheck

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// Port is where the program listens unless told otherwise.
const Port = 7070

// Ask and Answer are what a probe sends to the program and what it gets back.
const (
	Ask    = "ping\n"
	Answer = "pong\n"
)

// Client asks the program over one connection, which it never replaces.
type Client struct {
	conn net.Conn
	in   *bufio.Reader
}

// Dial connects to the program, with the given function or directly if that is nil.
func Dial(ctx context.Context, dial func(ctx context.Context, network, addr string) (net.Conn, error), addr string) (*Client, error) {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("selfcheck at %s: %w", addr, err)
	}
	return &Client{conn: conn, in: bufio.NewReader(conn)}, nil
}

// Check has the program check everything now and returns its report. After an error the connection is of no more use.
func (c *Client) Check(ctx context.Context) (Report, error) {
	defer context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := c.conn.Write([]byte("check\n")); err != nil {
		return Report{}, fmt.Errorf("selfcheck: ask: %w", err)
	}
	line, err := c.in.ReadBytes('\n')
	if err != nil {
		return Report{}, fmt.Errorf("selfcheck: wait for the report: %w", err)
	}
	var report Report
	if err := json.Unmarshal(line, &report); err != nil {
		return Report{}, fmt.Errorf("selfcheck: read the report: %w", err)
	}
	return report, nil
}

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// monitor is QEMU's control socket (QMP) of one virtual machine.
type monitor struct {
	conn net.Conn
	in   *bufio.Reader
	told map[string]bool // events that QEMU told of
}

// openMonitor connects once the socket is there, until ctx ends.
func openMonitor(ctx context.Context, path string) (*monitor, error) {
	var conn net.Conn
	err := waitFor(ctx, "QEMU's monitor", func() bool {
		var err error
		conn, err = net.Dial("unix", path)
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	m := &monitor{conn: conn, in: bufio.NewReader(conn), told: map[string]bool{}}
	if _, err := m.in.ReadBytes('\n'); err != nil { // the greeting
		conn.Close()
		return nil, fmt.Errorf("QEMU's monitor %s: %w", path, err)
	}
	if err := m.do("qmp_capabilities", nil, nil); err != nil {
		conn.Close()
		return nil, err
	}
	return m, nil
}

func (m *monitor) close() { m.conn.Close() }

// do carries out one command and reads its answer into result, if that is not nil.
func (m *monitor) do(command string, arguments map[string]any, result any) error {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	_ = m.conn.SetDeadline(time.Now().Add(10 * time.Second))
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return fmt.Errorf("QEMU: %s: %w", command, err)
	}
	for {
		answer, err := m.read()
		switch {
		case err != nil:
			return fmt.Errorf("QEMU: %s: %w", command, err)
		case answer.Error != nil:
			return fmt.Errorf("QEMU: %s: %s", command, answer.Error.Desc)
		case answer.Event != "":
			continue
		case result != nil:
			return json.Unmarshal(answer.Return, result)
		}
		return nil
	}
}

// said is a line of QEMU's: an answer, or an event.
type said struct {
	Event  string          `json:"event"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
}

func (m *monitor) read() (said, error) {
	var s said
	line, err := m.in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &s)
	}
	m.told[s.Event] = true
	return s, err
}

// reset presses the machine's reset button, and returns once QEMU tells that the machine begins anew.
func (m *monitor) reset() error {
	const event = "RESET"
	delete(m.told, event)
	if err := m.do("system_reset", nil, nil); err != nil {
		return err
	}
	for !m.told[event] {
		if _, err := m.read(); err != nil {
			return fmt.Errorf("QEMU: wait for the reset: %w", err)
		}
	}
	return nil
}

// save writes the machine's memory and devices to path, and ends it. Its disk is then as the memory expects it.
func (m *monitor) save(ctx context.Context, path string) error {
	if err := m.do("stop", nil, nil); err != nil {
		return err
	}
	if err := m.do("migrate", map[string]any{"uri": "exec:cat >" + path}, nil); err != nil {
		return err
	}
	var state struct {
		Status string `json:"status"`
		Error  string `json:"error-desc"`
	}
	var failed error
	err := waitFor(ctx, "QEMU to write the machine's memory", func() bool {
		failed = m.do("query-migrate", nil, &state)
		return failed != nil || state.Status == "completed" || state.Status == "failed"
	})
	if state.Status == "failed" {
		failed = errors.New("QEMU could not write the machine's memory: " + state.Error)
	}
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	return m.do("quit", nil, nil)
}

// awaitLoaded waits until a machine that was started from a saved one has all of it, and stands still.
func (m *monitor) awaitLoaded(ctx context.Context) error {
	var state struct {
		Status string `json:"status"`
	}
	var failed error
	err := waitFor(ctx, "QEMU to load the machine's memory", func() bool {
		failed = m.do("query-status", nil, &state)
		return failed != nil || state.Status != "inmigrate"
	})
	return errors.Join(err, failed)
}

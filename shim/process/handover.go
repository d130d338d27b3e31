package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// handoverTimeout bounds how long a handover takes: both processes hold their configuration meanwhile.
const handoverTimeout = 30 * time.Second

// drainingPath is where the control socket of a process goes that has handed over. Processes in one pod, each in a PID namespace of
// its own, may have the same number: they are told apart by when they began.
func drainingPath(control, began string) string {
	return strings.TrimSuffix(control, ".sock") + "-draining-" + began + ".sock"
}

// offer is what a process hands over, in the order of the file descriptors beside it.
type offer struct {
	Addresses []string `json:"addresses"`
}

// serveHandover gives the listening sockets away (SCM_RIGHTS, unix(7)) and retires when the successor says that it is ready.
func (p *Process) serveHandover(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isRetired() {
		http.Error(w, "another process has taken over already", http.StatusConflict)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	if err := errors.Join(conn.SetDeadline(time.Now().Add(handoverTimeout)), p.handOver(conn.(*net.UnixConn))); err != nil {
		p.log.Warn("the listening sockets were not handed over; this process goes on", "error", err)
	}
}

// handOver returns an error where this process goes on.
func (p *Process) handOver(conn *net.UnixConn) error {
	var o offer
	var fds []int
	for address, l := range p.listeners {
		f, err := l.File()
		if err != nil {
			return err
		}
		defer f.Close()
		fd, err := numberOf(f)
		if err != nil {
			return err
		}
		o.Addresses, fds = append(o.Addresses, address), append(fds, fd)
	}
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if _, _, err := conn.WriteMsgUnix(append(data, '\n'), unix.UnixRights(fds...), nil); err != nil {
		return err
	}
	var ready [1]byte
	if _, err := io.ReadFull(conn, ready[:]); err != nil {
		return fmt.Errorf("the successor did not become ready: %w", err)
	}
	if err := p.control.move(drainingPath(p.config.Control, fmt.Sprint(p.since.UnixMicro())), p.log); err != nil {
		return err
	}
	for address, l := range p.listeners {
		_ = l.Close() // the socket itself is open in the successor
		delete(p.listeners, address)
	}
	close(p.retired)
	_, err = conn.Write([]byte{1})
	if err != nil {
		p.log.Warn("the successor was ready and has gone", "error", err)
	}
	return nil
}

// numberOf is a file's descriptor, as it is. File.Fd would make the socket blocking, the listener's too, since they are one open file:
// an accept that finds nothing would then never end, and with it no process that has the socket.
func numberOf(f *os.File) (number int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	err = raw.Control(func(fd uintptr) { number = int(fd) })
	return number, err
}

// predecessor is a process that runs with the same control socket. A nil one has nothing.
type predecessor struct {
	conn  *net.UnixConn
	taken map[string]*net.TCPListener
}

// findPredecessor asks the process behind a control socket for its listeners. Where nobody listens there is none, and a socket
// that a killed process has left is removed.
func findPredecessor(ctx context.Context, control string) (*predecessor, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", control)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, os.Remove(control)
	case err != nil:
		return nil, fmt.Errorf("shim: control socket: %w", err)
	}
	before := &predecessor{conn: conn.(*net.UnixConn), taken: map[string]*net.TCPListener{}}
	if err := before.ask(); err != nil {
		before.leave()
		return nil, fmt.Errorf("shim: the process behind %s does not hand over: %w", control, err)
	}
	return before, nil
}

func (b *predecessor) ask() error {
	if err := b.conn.SetDeadline(time.Now().Add(handoverTimeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(b.conn, "POST /handover HTTP/1.1\r\nHost: shim\r\nContent-Length: 0\r\n\r\n"); err != nil {
		return err
	}
	data, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4*253)) // SCM_MAX_FD
	n, oobn, _, _, err := b.conn.ReadMsgUnix(data, oob)
	if err != nil {
		return err
	}
	var o offer
	if err := json.Unmarshal(data[:n], &o); err != nil {
		return fmt.Errorf("it answers %q", firstLine(string(data[:n])))
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return err
	}
	var fds []int
	for _, m := range messages {
		more, err := unix.ParseUnixRights(&m)
		if err != nil {
			return err
		}
		fds = append(fds, more...)
	}
	return b.adopt(o, fds)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\r\n")
	return line
}

func (b *predecessor) adopt(o offer, fds []int) error {
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		unix.CloseOnExec(fd)
		files[i] = os.NewFile(uintptr(fd), "listener")
		defer files[i].Close()
	}
	if len(files) != len(o.Addresses) {
		return fmt.Errorf("it offers %d sockets for %d addresses", len(files), len(o.Addresses))
	}
	for i, f := range files {
		l, err := net.FileListener(f)
		if err != nil {
			return err
		}
		tcp, ok := l.(*net.TCPListener)
		if !ok {
			return errors.Join(fmt.Errorf("%s is no TCP socket", o.Addresses[i]), l.Close())
		}
		b.taken[o.Addresses[i]] = tcp
	}
	return nil
}

// take is the listener of an address; nil where the predecessor has none.
func (b *predecessor) take(address string) *net.TCPListener {
	if b == nil {
		return nil
	}
	l := b.taken[address]
	delete(b.taken, address)
	return l
}

// retire tells the predecessor to accept nothing more, and waits until it has made place.
func (b *predecessor) retire() error {
	if b == nil {
		return nil
	}
	defer b.leave()
	if _, err := b.conn.Write([]byte{1}); err != nil {
		return err
	}
	var done [1]byte
	if _, err := io.ReadFull(b.conn, done[:]); err != nil {
		return fmt.Errorf("shim: the process before did not retire: %w", err)
	}
	return nil
}

// leave lets go of what was not taken. It may be called twice.
func (b *predecessor) leave() {
	if b == nil {
		return
	}
	_ = b.conn.Close() // it may be closed already
	for address, l := range b.taken {
		_ = l.Close() // the predecessor has its own
		delete(b.taken, address)
	}
}

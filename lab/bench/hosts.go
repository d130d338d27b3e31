package bench

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"drydock/lab"
	"drydock/lab/images"
	"drydock/lab/load"
	"drydock/lab/rig"
)

// startLimit is how long a Redis may take to start.
const startLimit = 30 * time.Second

// hosts is the lab in which everything is measured.
type hosts struct {
	*rig.Rig
	set images.Set
}

// Directories in a host, and the first of them on the machine. What lies in memory is gone with the host.
const (
	diskDir   = "/var/lib/drydock/bench"
	memoryDir = "/run/bench"
)

func (h *hosts) disk(host string, path ...string) string {
	return filepath.Join(append([]string{h.DataDir(host), "bench"}, path...)...)
}

// memory is where on the machine a path below memoryDir of a running host lies.
func (h *hosts) memory(host string, path ...string) (string, error) {
	root, err := h.Root(host)
	return filepath.Join(append([]string{root, memoryDir}, path...)...), err
}

// bring makes a lab with the Debian packages that contenders need.
func bring(ctx context.Context, name, binary string, count int, out io.Writer) (*hosts, error) {
	set, err := images.Build(ctx, images.DefaultCache, out)
	if err != nil {
		return nil, err
	}
	up, err := rig.Up(ctx, lab.Options{
		Name: name, Hosts: count, Binary: binary, Progress: out,
		Packages: []string{"iputils-arping", "netavark", "podman"},
	})
	if err != nil {
		return nil, err
	}
	h := &hosts{Rig: up, set: set}
	if err := h.ImportImages(ctx, h.Hosts()[0], io.Discard, images.Redis); err != nil {
		return nil, errors.Join(err, h.Down(context.WithoutCancel(ctx)))
	}
	return h, nil
}

// client opens connections where the lab's client is.
func (h *hosts) client() load.Dialer { return load.Dialer{Netns: h.NetNS(lab.ClientNode)} }

// awaitRedis waits until a Redis that was started answers the client.
func (h *hosts) awaitRedis(ctx context.Context, address string) error {
	server := netip.AddrPortFrom(netip.MustParseAddr(address), redisPort).String()
	for until := time.Now().Add(startLimit); ; {
		probe, err := load.StartProbe(ctx, load.ProbeConfig{Dialer: h.client(), Addr: server})
		if err == nil {
			probe.Stop()
			return nil
		}
		if time.Now().After(until) || ctx.Err() != nil {
			return fmt.Errorf("redis at %s does not answer: %w", server, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// sh runs a script in a host. The script sees args as $1 and so on.
func (h *hosts) sh(ctx context.Context, host, script string, args ...string) (string, error) {
	argv := append([]string{"sh", "-euc", script, "sh"}, args...)
	cmd := h.Exec(ctx, host, argv...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("on %s: %w: %s", host, err, tail(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// copy brings a file or a directory below memoryDir from one host to another over the network between them.
func (h *hosts) copy(ctx context.Context, from, to, path string) error {
	source, err := h.memory(from, path)
	if err != nil {
		return err
	}
	target, err := h.memory(to, filepath.Dir(path))
	if err != nil {
		return err
	}
	var listener net.Listener
	err = h.InNetNS(to, func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(h.Address(to), "0"))
		return err
	})
	if err != nil {
		return err
	}
	defer listener.Close()
	received := make(chan error, 1)
	go func() { received <- receive(listener, target) }()
	conn, err := load.Dialer{Netns: h.NetNS(from)}.DialContext(ctx, "tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	err = errors.Join(send(conn, source), conn.Close())
	if err != nil {
		listener.Close()
	}
	if err = errors.Join(err, <-received); err != nil {
		return fmt.Errorf("copy %s from %s to %s: %w", path, from, to, err)
	}
	return nil
}

func send(to io.Writer, path string) error {
	stream := tar.NewWriter(to)
	err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(filepath.Dir(path), file)
		if err != nil {
			return err
		}
		header, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		header.Name = name
		if err := stream.WriteHeader(header); err != nil || d.IsDir() {
			return err
		}
		in, err := os.Open(file)
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = io.Copy(stream, in)
		return err
	})
	return errors.Join(err, stream.Close())
}

func receive(listener net.Listener, dir string) error {
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	stream := tar.NewReader(conn)
	for {
		header, err := stream.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := take(stream, header, filepath.Join(dir, filepath.Clean("/"+header.Name))); err != nil {
			return err
		}
	}
}

func take(stream io.Reader, header *tar.Header, path string) error {
	if header.Typeflag == tar.TypeDir {
		return os.MkdirAll(path, 0o700)
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, stream)
	return errors.Join(err, out.Close())
}

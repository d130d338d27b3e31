package main

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab"
	"drydock/lab/images"
	"drydock/lab/load"
	"drydock/lab/rig"
	"drydock/lab/selfcheck"
)

//go:embed programs/threads.c
var threadsSource []byte

// program is what is moved, and how it is used from outside.
type program struct {
	name  string
	image string
	port  int
	// volume is where a volume is mounted; none if empty.
	volume string
	// open begins to use it.
	open func(ctx context.Context, dialer load.Dialer, address string) (session, error)
	// build makes an archive of the image where the lab's images have none such.
	build func(ctx context.Context, set images.Set) (archive string, err error)
}

// session is a client with a connection that it never replaces.
type session interface {
	// check says what is not as it should be.
	check(ctx context.Context) error
}

func programs() []program {
	return []program{
		{name: "C with threads", image: "threads", port: 7071, open: openLines, build: buildThreads},
		{name: "Redis", image: images.Redis, port: 6379, open: openRedis},
		{name: "Go server", image: images.Workbench, port: selfcheck.Port, open: openSelfcheck},
		{name: "PostgreSQL", image: images.Postgres, port: 5432, volume: images.PostgresData, open: openPostgres},
		{name: "nginx", image: images.Nginx, port: 8080, open: openNginx},
	}
}

// choose finds programs by their images' names.
func choose(names []string) ([]program, error) {
	if len(names) == 0 {
		return programs(), nil
	}
	var chosen []program
	for _, name := range names {
		found := false
		for _, p := range programs() {
			if p.image == name {
				chosen, found = append(chosen, p), true
			}
		}
		if !found {
			return nil, fmt.Errorf("program %q is not known", name)
		}
	}
	return chosen, nil
}

// bring imports the program's image on a host.
func (p program) bring(ctx context.Context, r *rig.Rig, host string) error {
	if p.build == nil {
		return r.ImportImages(ctx, host, os.Stderr, p.image)
	}
	set, err := images.Build(ctx, images.DefaultCache, os.Stderr)
	if err != nil {
		return err
	}
	archive, err := p.build(ctx, set)
	if err != nil {
		return err
	}
	defer os.Remove(archive)
	return r.ImportArchive(ctx, archive, p.image, host)
}

func (p program) spec(pod string) *drydockv1.PodSpec {
	container := &drydockv1.Container{Name: "main", Image: p.image}
	spec := &drydockv1.PodSpec{
		Name: pod, RestartPolicy: drydockv1.RestartPolicy_RESTART_POLICY_NEVER, Containers: []*drydockv1.Container{container},
	}
	if p.volume != "" {
		spec.Volumes = []*drydockv1.Volume{{Name: "data", Kind: &drydockv1.Volume_Local_{Local: &drydockv1.Volume_Local{}}}}
		container.Mounts = []*drydockv1.VolumeMount{{Volume: "data", Path: p.volume}}
	}
	return spec
}

// startWithin is for an emulated processor on a machine that is busy.
const startWithin = 5 * time.Minute

// use opens a session as soon as the program takes connections.
func (p program) use(ctx context.Context, r *rig.Rig, address string) (session, error) {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for {
		s, err := p.open(ctx, load.Dialer{Netns: r.NetNS(lab.ClientNode)}, fmt.Sprint(address, ":", p.port))
		if err == nil {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// answerWithin is how long a program may take for one answer.
const answerWithin = 2 * time.Minute

// lines is a session with a program that answers each line with ok, or with what is wrong.
type lines struct {
	conn net.Conn
	in   *bufio.Reader
}

func openLines(ctx context.Context, dialer load.Dialer, address string) (session, error) {
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	l := &lines{conn, bufio.NewReader(conn)}
	return l, l.ask()
}

func (l *lines) ask() error {
	if err := l.conn.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return err
	}
	if _, err := l.conn.Write([]byte("check\n")); err != nil {
		return err
	}
	answer, err := l.in.ReadString('\n')
	if err != nil {
		return err
	}
	if answer = strings.TrimSpace(answer); answer != "ok" {
		return fmt.Errorf("the program says: %s", answer)
	}
	return nil
}

// check asks more than once: what goes wrong slowly shows later.
func (l *lines) check(ctx context.Context) error {
	defer l.conn.Close()
	for range 3 {
		if err := l.ask(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return nil
}

// buildThreads compiles the program against the C library of this machine; it runs with the image's, which is as new or newer.
func buildThreads(ctx context.Context, set images.Set) (string, error) {
	dir, err := os.MkdirTemp("", "drydock-matrix-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	source, binary := filepath.Join(dir, "threads.c"), filepath.Join(dir, "threads")
	if err := os.WriteFile(source, threadsSource, 0o600); err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "gcc", "-O2", "-Wall", "-o", binary, source, "-lpthread", "-lrt").CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile threads.c (the Debian packages gcc and libc6-dev): %w: %s", err, out)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return "", err
	}
	return set.WithProgram(ctx, "threads", content)
}

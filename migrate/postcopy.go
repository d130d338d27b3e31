package migrate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/keeper"
	"drydock/migrate/owner"
	"drydock/pods"
)

// In post-copy CRIU itself, not the agent, carries the pages from the source, because they go on coming whatever becomes of
// the agents: the dumping CRIU serves them and the destination's lazy-pages daemon asks for them, over TLS with a
// certificate that is made for this one migration and known to nobody else.

// pageCredentials are the files in a migration's directory that both sides of the pages' connection use.
const (
	pageCertificate = "pages.crt"
	pageKey         = "pages.key"
)

// makePageCredentials makes the certificate that proves to each side that the other belongs to this migration.
func makePageCredentials(dir string) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "drydock pages"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	return certificate, key, writePageCredentials(dir, certificate, key)
}

func writePageCredentials(dir string, certificate, key []byte) error {
	if err := os.WriteFile(filepath.Join(dir, pageCertificate), certificate, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, pageKey), key, 0o600)
}

// pageOptions are CRIU's for a connection that carries pages.
func pageOptions(dir string) []string {
	certificate := filepath.Join(dir, pageCertificate)
	return []string{"tls", "tls-no-cn-verify", "tls-cacert " + certificate, "tls-cert " + certificate, "tls-key " + filepath.Join(dir, pageKey)}
}

// freePort finds a port for a page server on this host's address.
func freePort(host string) (int, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, fmt.Errorf("find a port for pages: %w", err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// offerPort chooses where the pages of a container are served.
func (m *move) offerPort(container string) error {
	port, err := freePort(m.pages.Host)
	m.pages.Ports[container] = uint32(port)
	return err
}

// lazyCheckpoint dumps one container but for its pages, and returns when the destination may ask for those. CRIU stays, and
// serves them; the pod's whole cgroup is frozen then, so that the tasks stand still also when CRIU ends.
func (m *move) lazyCheckpoint(ctx context.Context, container string, dump pods.Dump) (err error) {
	port := strconv.FormatUint(uint64(m.pages.Ports[container]), 10)
	dump.PageServer, dump.Lazy = net.JoinHostPort(m.pages.Host, port), true
	dump.Options = append(dump.Options, pageOptions(m.dir(m.spec.Id))...)
	mark := m.servingMark(m.spec.Id, container)
	if dump.LazyReady, err = os.OpenFile(mark, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	defer dump.LazyReady.Close()
	ended := make(chan error, 1)
	go func() { ended <- m.Pods.Checkpoint(ctx, m.spec.Pod, container, dump) }()
	for !written(mark) {
		select {
		case err := <-ended:
			if err == nil {
				err = errors.New("CRIU ended before it served any page")
			}
			return err
		case <-time.After(500 * time.Microsecond):
		}
	}
	return nil
}

// servingMark is the file that the source's CRIU writes to when it has dumped a container and serves its pages. It outlives
// an agent, so that the next one knows that this CRIU may be ended.
func (e *Engine) servingMark(migration, container string) string {
	return filepath.Join(e.dir(migration), "work", container, "serving")
}

func written(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > 0
}

// serving tells that every CRIU that is at work on the source of a post-copy only serves pages: it touches the tasks no more.
func (e *Engine) serving(pod, migration string) (bool, error) {
	rec, err := e.Pods.Record(pod)
	if err != nil {
		return false, err
	}
	for _, c := range rec.Spec.Containers {
		if written(e.servingMark(migration, c.Name)) {
			continue
		}
		if dumping, err := e.Pods.Dumping(pod, c.Name); err != nil || dumping {
			return false, err
		}
	}
	return true, nil
}

// keeperDir is where the marks of a container's keeper are.
func (e *Engine) keeperDir(migration, container string) string {
	return filepath.Join(e.dir(migration), "keeper", container)
}

// startKeepers starts, beside every container, the process that brings the missing pages.
func (e *Engine) startKeepers(j owner.Journal, pages *drydockv1.PageSource) error {
	dir := e.dir(j.Migration)
	if err := writePageCredentials(dir, pages.Certificate, pages.Key); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for container, port := range pages.Ports {
		from := e.restoreFrom(j.Migration, container)
		marks := e.keeperDir(j.Migration, container)
		if err := os.MkdirAll(marks, 0o700); err != nil {
			return err
		}
		options := filepath.Join(marks, "criu.conf")
		var text []byte
		for _, option := range pageOptions(dir) {
			text = append(text, option+"\n"...)
		}
		if err := os.WriteFile(options, text, 0o600); err != nil {
			return err
		}
		command := exec.Command(self, "keeper", marks, "--config", options, "lazy-pages", "-D", from.Images, "-W", from.Work,
			"--page-server", "--address", pages.Host, "--port", strconv.Itoa(int(port)), "-v2", "-o", "lazy-pages.log")
		command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := command.Start(); err != nil {
			return fmt.Errorf("start the keeper of container %s: %w", container, err)
		}
		if err := os.WriteFile(filepath.Join(marks, "pid"), []byte(strconv.Itoa(command.Process.Pid)), 0o600); err != nil {
			return err
		}
		go func() { _ = command.Wait() }()
	}
	return nil
}

// awaitDaemons waits until every lazy-pages daemon listens for the restore that will need it.
func (e *Engine) awaitDaemons(ctx context.Context, j owner.Journal, spec *drydockv1.PodSpec) error {
	for _, c := range spec.Containers {
		socket := filepath.Join(e.restoreFrom(j.Migration, c.Name).Work, "lazy-pages.socket")
		for !exists(socket) {
			if why, lost := keeper.Marked(e.keeperDir(j.Migration, c.Name), keeper.Lost); lost {
				return fmt.Errorf("the lazy-pages daemon of container %s: %s", c.Name, why)
			}
			if _, running := readPID(e.keeperDir(j.Migration, c.Name)); !running {
				return fmt.Errorf("the keeper of container %s ended before its lazy-pages daemon listened", c.Name)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Millisecond):
			}
		}
	}
	return nil
}

// keptSafe tells whether every userfaultfd of the pod's restored tasks is held by a keeper too.
func (e *Engine) keptSafe(migration string, spec *drydockv1.PodSpec) bool {
	for _, c := range spec.Containers {
		dir := e.keeperDir(migration, c.Name)
		pid, running := readPID(dir)
		if _, complete := keeper.Marked(dir, keeper.Complete); complete {
			continue
		}
		if !running {
			return false
		}
		if daemon := childOf(pid); daemon == 0 || !keeper.Holds(pid, daemon) {
			return false
		}
	}
	return true
}

func readPID(dir string) (int, bool) {
	data, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(string(data))
	return pid, err == nil && alive(pid)
}

// childOf is the one process that a keeper has started, on whichever of its threads.
func childOf(pid int) int {
	if children := pods.Children(pid); len(children) > 0 {
		return children[0]
	}
	return 0
}

// pagesHere tells, in post-copy, whether all pages have arrived, and whether they never will.
func (e *Engine) pagesHere(migration string, rec *pods.Record) (complete, lost bool) {
	if rec == nil {
		return false, false
	}
	complete = true
	for _, c := range rec.Spec.Containers {
		dir := e.keeperDir(migration, c.Name)
		if _, done := keeper.Marked(dir, keeper.Complete); done {
			continue
		}
		complete = false
		_, said := keeper.Marked(dir, keeper.Lost)
		_, running := readPID(dir)
		if said || !running && exists(dir) {
			lost = true
		}
	}
	return complete, lost
}

// endKeepers lets go of the userfaultfds, once no task is left that could read a missing page.
func (e *Engine) endKeepers(pod, migration string) {
	dirs, _ := filepath.Glob(e.keeperDir(migration, "*"))
	for _, dir := range dirs {
		pid, running := readPID(dir)
		if !running {
			continue
		}
		if daemon := childOf(pid); daemon != 0 {
			_ = syscall.Kill(daemon, syscall.SIGKILL)
		}
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			e.Log.Warn("end a keeper", "pod", pod, "pid", pid, "error", err)
		}
	}
}

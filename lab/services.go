package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// restartAfter is how long a service stays down before it is started again.
const restartAfter = 500 * time.Millisecond

const logInHost = "/var/log/drydock"

// serviceState is what an init writes down about a service, for those outside.
type serviceState struct {
	Name     string `json:"name"`
	PID      int    `json:"pid"` // in the host's PID namespace; 0 while it is down
	Restarts int    `json:"restarts"`
}

// supervisor keeps a host's services running, and buries whatever ends in the host.
type supervisor struct {
	services []Service
	env      []string

	mu       sync.Mutex // held from before a service's start until its PID is noted, so that its end is not missed
	states   []serviceState
	stopping bool
}

func newSupervisor(s spec) *supervisor {
	sup := &supervisor{services: s.Services, env: hostEnv(s.Lab)}
	for _, svc := range s.Services {
		sup.states = append(sup.states, serviceState{Name: svc.Name})
	}
	return sup
}

// hostEnv is the environment of a host's programs. DRYDOCK_LAB tells an agent that its host's reboots are simulated.
func hostEnv(labName string) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "DRYDOCK_LAB=" + labName,
	}
}

func (s *supervisor) startAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.services {
		s.start(i)
	}
	s.publish()
}

// start starts one service. One that cannot be started counts as one that ended at once.
func (s *supervisor) start(i int) {
	if s.stopping {
		return
	}
	pid, err := s.spawn(s.services[i])
	if err != nil {
		fmt.Fprintf(os.Stderr, "service %s: %v\n", s.services[i].Name, err)
		s.startAgain(i)
		return
	}
	s.states[i].PID = pid
}

func (s *supervisor) spawn(svc Service) (int, error) {
	path, err := lookPath(svc.Argv[0])
	if err != nil {
		return 0, err
	}
	log, err := os.OpenFile(filepath.Join(logInHost, svc.Name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	return syscall.ForkExec(path, svc.Argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   append(append([]string{}, s.env...), svc.Env...),
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
}

// lookPath finds a program on the host's path; this process still has the machine's.
func lookPath(name string) (string, error) {
	if filepath.IsAbs(name) {
		return exec.LookPath(name)
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

// startAgain starts a service that ended, a little later.
func (s *supervisor) startAgain(i int) {
	s.states[i].PID = 0
	s.states[i].Restarts++
	time.AfterFunc(restartAfter, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.start(i)
		s.publish()
	})
}

// reap buries every process that ends in the host, until ctx ends.
func (s *supervisor) reap(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	for {
		s.bury()
		select {
		case <-ctx.Done():
			return
		case <-ended:
		}
	}
}

func (s *supervisor) bury() {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := false
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			break
		}
		for i := range s.states {
			if s.states[i].PID == pid {
				s.startAgain(i)
				changed = true
			}
		}
	}
	if changed {
		s.publish()
	}
}

// stopAll asks the services to end, gives them up to grace, and then kills whatever is left in the host.
func (s *supervisor) stopAll(ctx context.Context, grace time.Duration) {
	s.mu.Lock()
	s.stopping = true
	for _, st := range s.states {
		if st.PID > 0 {
			_ = unix.Kill(st.PID, unix.SIGTERM)
		}
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	_ = waitFor(ctx, "services", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, st := range s.states {
			if st.PID > 0 {
				return false
			}
		}
		return true
	})
	_ = unix.Kill(-1, unix.SIGKILL)
}

// publish writes the services' states where those outside read them.
func (s *supervisor) publish() {
	if err := writeJSON(filepath.Join(logInHost, servicesFile), s.states); err != nil {
		fmt.Fprintln(os.Stderr, "write down the services:", err)
	}
}

// servicesFile is beside the logs.
const servicesFile = "services.json"

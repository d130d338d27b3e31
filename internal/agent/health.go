package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/pods"
)

// health is what a container's probe has said.
type health struct {
	known, ok bool
	message   string
	failures  int32
	next      time.Time
}

const (
	defaultPeriod  = 10 * time.Second
	defaultTimeout = time.Second
	defaultFails   = 3
)

// ask runs a container's probe when its time has come. The caller holds the pod, so no command of a probe is in the pod
// when it is frozen.
func (s *supervisor) ask(ctx context.Context, pod string, c *drydockv1.Container) {
	probe := c.Probe
	if probe == nil {
		return
	}
	key := pod + "/" + c.Name
	s.mu.Lock()
	h := s.health[key]
	if h == nil {
		h = &health{next: time.Now().Add(probe.InitialDelay.AsDuration())}
		s.health[key] = h
	}
	due := !time.Now().Before(h.next)
	h.next = time.Now().Add(orDefault(probe.Period.AsDuration(), defaultPeriod))
	s.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, orDefault(probe.Timeout.AsDuration(), defaultTimeout))
	defer cancel()
	err := s.probe(ctx, pod, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		h.known, h.ok, h.message, h.failures = true, true, "", 0
		return
	}
	limit := probe.FailureThreshold
	if limit == 0 {
		limit = defaultFails
	}
	if h.failures++; h.failures >= limit {
		h.known, h.ok, h.message = true, false, err.Error()
	}
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

func (s *supervisor) probe(ctx context.Context, pod string, c *drydockv1.Container) error {
	switch action := c.Probe.Action.(type) {
	case *drydockv1.Probe_Exec_:
		var out strings.Builder
		code, err := s.pods.Exec(ctx, pod, pods.Exec{Container: c.Name, Command: action.Exec.Command, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out})
		if err == nil && code != 0 {
			err = fmt.Errorf("probe ended with status %d: %s", code, strings.TrimSpace(out.String()))
		}
		return err
	case *drydockv1.Probe_Tcp:
		conn, err := s.dial(ctx, pod, action.Tcp.Port)
		if err != nil {
			return err
		}
		return conn.Close()
	case *drydockv1.Probe_Http:
		return s.get(ctx, pod, action.Http)
	}
	return nil
}

// dial connects from inside the pod's own network, where its host need have no way to.
func (s *supervisor) dial(ctx context.Context, pod string, port uint32) (net.Conn, error) {
	network, err := s.pods.Network(ctx, pod)
	if err != nil {
		return nil, err
	}
	return network.Dial(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
}

func (s *supervisor) get(ctx context.Context, pod string, action *drydockv1.Probe_HTTP) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return s.dial(ctx, pod, action.Port)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/%s", action.Port, strings.TrimPrefix(action.Path, "/")), nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20))
	if res.StatusCode >= 400 {
		return fmt.Errorf("probe was answered with %s", res.Status)
	}
	return nil
}

// forget drops what the probes of a pod have said: it has become another version of itself.
func (s *supervisor) forget(pod *drydockv1.PodSpec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range pod.GetContainers() {
		key := pod.GetName() + "/" + c.GetName()
		delete(s.health, key)
		delete(s.backoff, key)
	}
}

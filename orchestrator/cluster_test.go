package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/config"
	"drydock/internal/pki"
	"drydock/orchestrator/audit"
)

// childConfig names the configuration of a controller that this test program is to be.
const childConfig = "DRYDOCK_TEST_CONTROLLER"

func TestMain(m *testing.M) {
	path := os.Getenv(childConfig)
	if path == "" {
		os.Exit(m.Run())
	}
	if err := beController(path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func beController(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var cfg config.Controller
	if err := json.Unmarshal(data, &cfg); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return Run(ctx, cfg)
}

// ensemble is controllers, each a process, with a store of their own, or one outside.
type ensemble struct {
	*testing.T
	dir   string
	etcd  config.Etcd
	all   map[string]*member
	order []string
}

type member struct {
	cfg     config.Controller
	process *os.Process
	ended   chan struct{}
	drydockv1connect.AccessServiceClient
	drydockv1connect.ClusterServiceClient
}

func newEnsemble(t *testing.T, names ...string) *ensemble {
	t.Helper()
	return newEnsembleOn(t, config.Etcd{}, names...)
}

func newEnsembleOn(t *testing.T, etcd config.Etcd, names ...string) *ensemble {
	t.Helper()
	dir, err := os.MkdirTemp("", "drydock-cluster-") // short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &ensemble{T: t, dir: dir, etcd: etcd, all: make(map[string]*member), order: names}
	for i, name := range names {
		m := c.add(name)
		if i > 0 && len(etcd.Endpoints) == 0 {
			c.invite(c.all[names[0]], m)
		}
		c.start(name)
		c.await(name+" has a vote", func() bool { return c.states()[name] == controllerReady || c.states()[name] == controllerLeads })
	}
	return c
}

// freeAddress is one that nothing listens at now.
func (c *ensemble) freeAddress() string {
	c.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	c.must(err)
	defer listener.Close()
	return listener.Addr().String()
}

func (c *ensemble) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *ensemble) add(name string) *member {
	c.Helper()
	cfg, err := config.LoadController("", nil)
	c.must(err)
	cfg.Name, cfg.Listen, cfg.Etcd = name, c.freeAddress(), c.etcd
	if len(c.etcd.Endpoints) == 0 {
		cfg.Etcd.Peer = c.freeAddress()
	}
	cfg.DataDir, cfg.Socket = filepath.Join(c.dir, name), filepath.Join(c.dir, name+".sock")
	cfg.Join.TokenFile = filepath.Join(c.dir, name+".token")
	m := &member{cfg: cfg}
	client, base, err := pki.Client("unix://"+cfg.Socket, nil, nil)
	c.must(err)
	c.Cleanup(client.CloseIdleConnections)
	m.AccessServiceClient = drydockv1connect.NewAccessServiceClient(client, base)
	m.ClusterServiceClient = drydockv1connect.NewClusterServiceClient(client, base)
	c.all[name] = m
	return m
}

// invite gives a controller a token of another one.
func (c *ensemble) invite(by, m *member) {
	c.Helper()
	made, err := by.CreateControllerToken(c.Context(), connect.NewRequest(&drydockv1.CreateControllerTokenRequest{Name: m.cfg.Name}))
	c.must(err)
	c.must(os.WriteFile(m.cfg.Join.TokenFile, []byte(made.Msg.GetToken()), 0o600))
	m.cfg.Join.Controllers = []string{"https://" + by.cfg.Listen}
}

func (c *ensemble) start(name string) {
	c.Helper()
	m := c.all[name]
	data, err := json.Marshal(m.cfg)
	c.must(err)
	path := filepath.Join(c.dir, name+".json")
	c.must(os.WriteFile(path, data, 0o600))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childConfig+"="+path)
	cmd.Stderr = c.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.must(cmd.Start())
	m.process, m.ended = cmd.Process, make(chan struct{})
	ended := m.ended
	go func() {
		_ = cmd.Wait() // however it ends, the test knows why
		close(ended)
	}()
	c.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
}

func (c *ensemble) signal(name string, signal os.Signal) {
	c.Helper()
	process := c.all[name].process
	c.must(process.Signal(signal))
	if signal != syscall.SIGSTOP {
		return
	}
	c.await(name+" stands still", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process.Pid))
		c.must(err)
		_, rest, _ := strings.Cut(string(stat), ") ")
		return strings.HasPrefix(rest, "T")
	})
}

// states are those of all controllers, as the first one says that answers; none where none does.
func (c *ensemble) states() map[string]string {
	for _, name := range c.order {
		if m := c.all[name]; m != nil && m.process != nil {
			ctx, cancel := context.WithTimeout(c.Context(), 2*time.Second)
			list, err := m.ListControllers(ctx, connect.NewRequest(&drydockv1.ListControllersRequest{}))
			cancel()
			if err != nil {
				continue
			}
			states := make(map[string]string)
			for _, info := range list.Msg.GetControllers() {
				states[info.GetName()] = info.GetState()
			}
			return states
		}
	}
	return nil
}

// leader waits until one leads that is none of those.
func (c *ensemble) leader(but ...string) string {
	c.Helper()
	found := ""
	c.await("a controller leads", func() bool {
		for name, state := range c.states() {
			if state == controllerLeads && !slices.Contains(but, name) {
				found = name
			}
		}
		return found != ""
	})
	return found
}

func (c *ensemble) await(what string, holds func() bool) {
	c.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.Fatalf("not in a minute: %s; controllers: %v", what, c.states())
		}
	}
}

// addUser asks one controller for a change.
func (c *ensemble) addUser(ctx context.Context, by, name string) error {
	request, _, err := pki.NewRequest(pki.Identity{Kind: pki.User, Name: name})
	c.must(err)
	_, err = c.all[by].CreateUser(ctx, connect.NewRequest(&drydockv1.CreateUserRequest{Name: name, Role: "viewer", CertificateRequest: request}))
	return err
}

// recordedBy is which controller has recorded what was done to a user, by outcome.
func (c *ensemble) recordedBy(asked, user string) map[string]string {
	c.Helper()
	stream, err := c.all[asked].ListEvents(c.Context(), connect.NewRequest(&drydockv1.ListEventsRequest{Object: "user " + user}))
	c.must(err)
	recorded := make(map[string]string)
	for stream.Receive() {
		recorded[stream.Msg().GetEvent().GetOutcome()] = stream.Msg().GetEvent().GetController()
	}
	c.must(errors.Join(stream.Err(), stream.Close()))
	return recorded
}

func TestAnotherControllerLeadsWhenTheLeaderIsKilledOrPaused(t *testing.T) {
	t.Parallel()
	newEnsemble(t, "c1", "c2", "c3").loseLeaders()
}

// loseLeaders kills the controller that leads, and pauses the next one.
func (c *ensemble) loseLeaders() {
	c.Helper()
	first := c.leader()
	follower := c.order[(slices.Index(c.order, first)+1)%len(c.order)]
	c.must(c.addUser(c.Context(), follower, "anna"))
	if got := c.recordedBy(first, "anna"); got[audit.Done] != first {
		c.Errorf("a follower did not pass on: %v", got)
	}

	c.signal(first, syscall.SIGKILL)
	<-c.all[first].ended
	// Another controller waits with what it is asked for until it knows who leads.
	c.must(c.addUser(c.Context(), follower, "bob"))
	second := c.leader(first)
	c.start(first)
	c.await("the one that was killed is back", func() bool { return c.states()[first] == controllerReady })

	c.signal(second, syscall.SIGSTOP)
	answered := make(chan error, 1)
	// It is asked while it is paused, and believes that it leads when it wakes up.
	go func() { answered <- c.addUser(context.Background(), second, "carl") }()
	order := c.order
	c.order = slices.DeleteFunc(slices.Clone(order), func(name string) bool { return name == second })
	c.must(c.addUser(c.Context(), c.order[0], "dora"))
	third := c.leader(second)
	c.signal(second, syscall.SIGCONT)
	err := <-answered
	if by := c.recordedBy(third, "carl"); by[audit.Done] == second || (err == nil) != (by[audit.Done] != "") {
		c.Errorf("what the paused leader was asked for: %v, recorded %v", err, by)
	}
	c.await("the one that was paused follows", func() bool { return c.states()[second] == controllerReady })
	c.must(c.addUser(c.Context(), second, "emil"))
	if got := c.recordedBy(first, "emil"); got[audit.Done] != c.leader() {
		c.Errorf("recorded by %v", got)
	}
}

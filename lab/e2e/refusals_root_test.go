//go:build root

package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab"
)

// idle is a pod's program that does nothing and ends when told to: as process 1 a shell hears no signal without a trap.
var idle = []string{"--image", "workbench", "--user", "0", "--host", "h1", "--command", "--", "/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"}

func TestBadInputIsRefusedWithARemedyAndChangesNothing(t *testing.T) {
	runPod(t, "steady", idle...)
	for _, c := range []struct {
		name   string
		status int
		want   []string
		args   string
	}{
		{"unknown pod", 2, []string{`no pod "nope"`, "see `drydock pod ls`"}, "migrate nope --to h2"},
		{"unknown pod to inspect", 2, []string{`no pod "nope"`, "see `drydock pod ls`"}, "pod inspect nope"},
		{"unknown pod to remove", 2, []string{`no pod "nope"`, "see `drydock pod ls`"}, "pod rm nope"},
		{"unknown destination", 2, []string{`no host "h9"`, "see `drydock host ls`"}, "migrate steady --to h9"},
		{"unknown host to run on", 2, []string{`no host "h9"`, "see `drydock host ls`"}, "pod run new --image redis --host h9"},
		{"unknown host to drain", 2, []string{`no host "h9"`, "see `drydock host ls`"}, "host drain h9"},
		{"destination equal to the source", 3, []string{"is on h1 already", "choose another host"}, "migrate steady --to h1"},
		{"unknown image", 3, []string{"image absent is not known", "drydock image import"}, "pod run new --image absent --host h1"},
		{"name that is taken", 3, []string{"steady", "choose another name"}, "pod run steady --image redis"},
		{"mode that the kernel cannot do", 3, []string{"mode precopy", "remedy: "}, "migrate steady --to h2 --mode precopy"},
		{"unknown mode", 2, []string{`mode "magic"`, "remedy: "}, "migrate steady --to h2 --mode magic"},
		{"unknown flag", 2, []string{"--fast", "remedy: "}, "migrate steady --to h2 --fast"},
		{"shared volume that the host has not", 3, []string{"host h1 has no /srv/absent", "mount the shared file system there"}, "pod run new --image redis --host h1 -v shared=/srv/absent:/data"},
		{"shared volume that no host has", 3, []string{"host h1 has no /srv/absent", "host h2 has no /srv/absent", "remedy: "}, "pod run new --image redis -v shared=/srv/absent:/data"},
		{"host that holds a pod to remove", 3, []string{"h1", "drain"}, "host rm h1"},
	} {
		t.Run(c.name, func(t *testing.T) { refuses(t, c.status, c.want, strings.Fields(c.args)...) })
	}
}

func TestACorruptArchiveIsRefused(t *testing.T) {
	whole, err := os.ReadFile(shared.images.Path("redis"))
	if err != nil {
		t.Fatal(err)
	}
	garbage := make([]byte, 100_000)
	rand.Read(garbage)
	for name, content := range map[string][]byte{"cut": whole[:1_000_000], "garbage": garbage, "empty": nil} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name+".tar")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			refuses(t, 2, []string{"archive", "write it again"}, "image", "import", path, "--as", name)
		})
	}
}

func TestAManifestWithUnsupportedFieldsIsRefusedByTheirNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pod.yaml")
	text := `{apiVersion: v1, kind: Pod, metadata: {name: odd}, spec: {hostNetwork: true, containers: [
  {name: main, image: redis, lifecycle: {preStop: {exec: {command: ["true"]}}}}]}}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, 2, []string{"spec.hostNetwork", "spec.containers[0].lifecycle", "remedy: "}, "pod", "run", "-f", path)
}

func TestACordonedHostIsNoDestination(t *testing.T) {
	runPod(t, "steady", idle...)
	do(t, "host", "drain", "h3")
	defer do(t, "host", "resume", "h3")
	refuses(t, 3, []string{"h3 is cordoned", "drydock host resume h3"}, "migrate", "steady", "--to", "h3")
	refuses(t, 3, []string{"h3 is cordoned", "drydock host resume h3"}, "pod", "run", "new", "--image", "redis", "--host", "h3")
}

// cut takes a host off the network until the test ends.
func cut(t *testing.T, host string) {
	t.Helper()
	t.Cleanup(func() { mend(t, host) })
	if err := shared.SetLink(host, false); err != nil {
		t.Fatal(err)
	}
	until(t, host+" unreachable", hostIs(t, host, "unreachable"))
}

func mend(t *testing.T, host string) {
	if err := shared.SetLink(host, true); err != nil {
		t.Fatal(err)
	}
	until(t, host+" ready", func() bool {
		res, err := shared.ListHosts(context.Background(), connect.NewRequest(&drydockv1.ListHostsRequest{}))
		if err != nil {
			return false
		}
		for _, h := range res.Msg.Hosts {
			if h.Name == host {
				return h.State == "ready"
			}
		}
		return false
	})
}

func TestAnUnreachableHostIsNoDestination(t *testing.T) {
	runPod(t, "steady", idle...)
	cut(t, "h3")
	refuses(t, 3, []string{"h3", "remedy: "}, "migrate", "steady", "--to", "h3")
	refuses(t, 3, []string{"h3", "remedy: "}, "pod", "run", "new", "--image", "redis", "--host", "h3")
}

func TestCheckRefusesWhatCannotBeCheckpointed(t *testing.T) {
	t.Run("a stopped process", func(t *testing.T) {
		runPod(t, "held", idle...)
		inside(t, "held", "(sleep 600 & kill -STOP $!) >/dev/null 2>&1")
		refuses(t, 3, []string{"is stopped", "SIGCONT", "remedy: "}, "migrate", "held", "--to", "h2")
	})
	t.Run("a session of exec", func(t *testing.T) {
		runPod(t, "held", idle...)
		session := exec.CommandContext(t.Context(), shared.binary, "pod", "exec", "held", "--", "/bin/sh", "-c", "echo in; sleep 600")
		session.Env = append(os.Environ(), shared.Env()...)
		out, err := session.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := session.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			session.Process.Kill()
			session.Wait()
		}()
		if _, err := out.Read(make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
		refuses(t, 3, []string{"exec", "remedy: "}, "migrate", "held", "--to", "h2")
	})
}

func TestAHostDoesNotJoinWithATokenThatIsNotForIt(t *testing.T) {
	token := func(host string, more ...string) string {
		out := do(t, append([]string{"host", "join", host}, more...)...)
		first, _, _ := strings.Cut(out, "\n")
		return first
	}
	used, err := os.ReadFile(filepath.Join(shared.ConfigDir("h2"), "token"))
	if err != nil {
		t.Fatal(err)
	}
	expired := token("h4", "--ttl", "1ms")
	for name, c := range map[string]struct{ token, want string }{
		"malformed":      {"nonsense", "malformed"},
		"another host's": {token("h5"), "is for host h5"},
		"used":           {string(used), "used"},
		"expired":        {expired, "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			before := look(t)
			got := joinAs(t, "h4", c.token)
			checkRefusal(t, got, 1, []string{c.want, "`drydock host join"})
			if after := look(t); fmt.Sprint(before) != fmt.Sprint(after) {
				t.Errorf("it changed something: %v, then %v", before, after)
			}
		})
	}
}

// joinAs starts an agent by hand on h3 that calls itself something else.
func joinAs(t *testing.T, name, token string) answer {
	t.Helper()
	dir := shared.ConfigDir("h3")
	config, err := os.ReadFile(filepath.Join(dir, "agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("name: h3", "name: "+name, ":7444", ":7555", "/var/lib/drydock", "/var/lib/drydock/"+name,
		"run-dir: /run/drydock", "run-dir: /run/drydock-"+name, "/etc/drydock/token", "/etc/drydock/"+name+".token").Replace(string(config))
	for file, content := range map[string]string{name + ".yaml": text, name + ".token": token} {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
	}
	return finish(t, shared.Exec(t.Context(), "h3", "timeout", "60", "/usr/bin/drydock", "agent", "--config", "/etc/drydock/"+name+".yaml"))
}

func TestAClientWithoutACertificateIsRefused(t *testing.T) {
	before := look(t)
	ca := filepath.Join(shared.DataDir(lab.ControllerNode), "controller", "ca.pem")
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	make := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
		"-subj", "/CN=stranger", "-keyout", key, "-out", cert)
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	server := "https://" + shared.Address(lab.ControllerNode) + ":7443"
	t.Run("none at all", func(t *testing.T) {
		got := finish(t, shared.Exec(t.Context(), lab.ClientNode, shared.binary, "--server", server, "--ca", ca, "pod", "ls"))
		checkRefusal(t, got, 2, []string{"client certificate", "remedy: name PEM files"})
	})
	t.Run("another CA's", func(t *testing.T) {
		got := finish(t, shared.Exec(t.Context(), lab.ClientNode, shared.binary,
			"--server", server, "--ca", ca, "--cert", cert, "--key", key, "host", "drain", "h1"))
		checkRefusal(t, got, 1, []string{"needs a client certificate", "remedy: use a context whose certificate may do this"})
	})
	if after := look(t); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("it changed something: %v, then %v", before, after)
	}
}

//go:build root

package process

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/shim/module/moduletest"
)

// program runs one until the test ends, and waits until it takes connections.
func program(t *testing.T, address string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; scripts/bootstrap shim installs it", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen", args[0])
		}
	}
}

// says runs a client and gives what it prints.
func says(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

func free(t *testing.T) (address, port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return l.Addr().String(), port
}

func TestRedisAndItsClientTalkThroughTheModuleInBothDirections(t *testing.T) {
	f := newFiles(t)
	redis, port := free(t)
	program(t, redis, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", f.dir)
	record, err := os.ReadFile("../../configs/services/people.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, "people.yaml", string(record))
	f.write(t, "people.wasm", string(moduletest.Build(t, "../..", "shim/module/people/wasm")))
	serve := func(version string) func(client string, words ...string) string {
		addresses, ports := [2]string{}, [2]string{}
		for i := range addresses {
			addresses[i], ports[i] = free(t)
		}
		f.write(t, version+".yaml", fmt.Sprintf("record: people.yaml\nserver: {address: '%s', version: %s}\ncontrol: %s\nlisten:\n"+
			"  - {address: '%s', port: 6379}\n  - {address: '%s', port: 6380}\n", redis, version, filepath.Join(f.dir, version+".sock"), addresses[0], addresses[1]))
		g := *f
		g.config = filepath.Join(f.dir, version+".yaml")
		run(t, &g)
		return func(client string, words ...string) string {
			port := map[string]string{"v1": ports[0], "v2": ports[1]}[client]
			return says(t, append([]string{"redis-cli", "-p", port}, words...)...)
		}
	}
	v2 := serve("v2")
	for _, test := range []struct{ client, command, want string }{
		{"v1", "SET user:7:name Ada", "OK"}, {"v2", "HGET user:7 name", "Ada"}, {"v2", "HSET user:7 mail ada@example.org", "1"},
		{"v1", "GET user:7:mail", "ada@example.org"}, {"v1", "MGET user:7:name user:7:mail", "Ada\nada@example.org"}, {"v1", "PING", "PONG"},
		{"v1", "EXPIRE user:7:name 10", "DISALLOWED v2 has no EXPIRE of a single field"}, {"v1", "DEL user:7:mail", "1"}, {"v2", "HGETALL user:7", "name\nAda"},
		{"v2", "DEL user:7", "1"}, {"v1", "GET user:7:name", ""},
	} {
		if got := v2(test.client, strings.Fields(test.command)...); strings.TrimPrefix(got, "(error) ") != test.want {
			t.Errorf("%s to v2: %s: %q", test.client, test.command, got)
		}
	}
	v1 := serve("v1")
	for _, test := range []struct{ client, command, want string }{
		{"v2", "HSET user:8 name Alan", "1"}, {"v2", "HSET user:8 name Turing", "0"}, {"v1", "GET user:8:name", "Turing"}, {"v2", "HGETALL user:8", "name\nTuring"},
		{"v2", "-3 HGET user:8 name", "Turing"}, {"v2", "HSET user:8 age 41", "DISALLOWED v1 has no age of a person; it has name and mail"}, {"v2", "DEL user:8", "1"},
	} {
		if got := v1(test.client, strings.Fields(test.command)...); strings.TrimPrefix(got, "(error) ") != test.want {
			t.Errorf("%s to v1: %s: %q", test.client, test.command, got)
		}
	}
}

func TestCurlAndNginxTalkThroughTheShim(t *testing.T) {
	f := newFiles(t)
	server, _ := free(t)
	f.write(t, "nginx.conf", fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr error;
events {}
http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
server { listen %[2]s; default_type application/json;
location /greet { return 200 '{"text":"Hello"}'; } } }
`, f.dir, server))
	program(t, server, "/usr/sbin/nginx", "-p", f.dir, "-c", "nginx.conf", "-e", "stderr")
	f.configure(t, server, "v2")
	run(t, f)
	for _, test := range []struct{ version, field, path, want string }{
		{"v1", "name", "/greet", `{"text":"Hello"} 200`}, {"v2", "first", "/greet", `{"text":"Hello"} 200`}, {"v1", "name", "/shout", "501"}, {"v9", "name", "/greet", "400"},
	} {
		for _, protocol := range []string{"--http1.1", "--http2-prior-knowledge"} {
			got := says(t, "curl", "-sS", protocol, "-H", "X-Greeter-Version: "+test.version, "-H", "Content-Type: application/json", "-d", `{"`+test.field+`":"Ada"}`,
				"-w", " %{http_code}", "http://"+f.addresses[2]+test.path)
			if !strings.HasSuffix(got, test.want) {
				t.Errorf("%s %s %s: %s", protocol, test.version, test.path, got)
			}
		}
	}
}

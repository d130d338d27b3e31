package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The ways to the server.
const (
	direct   = "direct"
	passed   = "shim, passed"
	haproxy  = "haproxy"
	oneHop   = "shim, 1 hop"
	twoHops  = "shim, 2 hops"
	fourHops = "shim, 4 hops"
	nginxLua = "nginx with Lua"
)

// servers are the processes that take part.
type servers struct {
	dir     string
	running []*exec.Cmd
}

// The newest version, v5, is what the server speaks; an older one has another name for the one field that each pair renames.
const newest = 5

// body is a greeting as a version has it: the request's field is in0 to in4, that of the answer out0 to out4.
func body(kind string, version int, value string) string {
	return fmt.Sprintf(`{"%s%d":"%s","other":[1,2,3],"nested":{"a":"b"}}`, kind, version, value)
}

func request(version int) string {
	b := body("in", version, "Ada")
	return fmt.Sprintf("POST /greet HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
}

// start starts everything, waits until it answers, and gives the ways.
func (s *servers) start(ctx context.Context) ([]way, error) {
	ports, err := freePorts(4 + newest)
	if err != nil {
		return nil, err
	}
	backend, proxy, lua := ports[0], ports[1], ports[2]
	for name, text := range map[string]string{
		"backend.conf": backendConf(s.dir, backend), "haproxy.conf": haproxyConf(proxy, backend), "lua.conf": luaConf(s.dir, lua, backend),
		"greeter.yaml": record(ports[4:]), "shim.yaml": shimConf(s.dir, backend, ports[4:]),
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	for _, args := range [][]string{
		{"/usr/sbin/nginx", "-p", s.dir, "-c", "backend.conf", "-e", "stderr"}, {"/usr/sbin/haproxy", "-db", "-f", filepath.Join(s.dir, "haproxy.conf")},
		{"/usr/sbin/nginx", "-p", s.dir, "-c", "lua.conf", "-e", "stderr"}, {"build/drydock", "shim", "serve", "--config", filepath.Join(s.dir, "shim.yaml")},
	} {
		if err := s.run(ctx, args); err != nil {
			return nil, err
		}
	}
	newBody := body("out", newest-1, "Hello")
	shim := func(name string, hops int) way {
		version := newest - 1 - hops
		return way{name: name, address: ports[4+version], request: request(version), want: body("out", version, "Hello")}
	}
	ways := []way{
		{name: direct, address: backend, request: request(newest - 1), want: newBody}, shim(passed, 0),
		{name: haproxy, address: proxy, request: request(newest - 1), want: newBody}, shim(oneHop, 1),
		{name: nginxLua, address: lua, request: request(newest - 2), want: body("out", newest-2, "Hello"), has: `"out3":"Hello"`}, // Lua orders members as it likes
		shim(twoHops, 2), shim(fourHops, 4),
	}
	return ways, wait(ctx, ways)
}

// wait waits until each way answers as it should.
func wait(ctx context.Context, ways []way) error {
	for i := range ways {
		var err error
		for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
			if _, _, err = ways[i].calls(ctx, 1, time.Millisecond); err == nil {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("%s does not answer: %w", ways[i].name, err)
		}
	}
	return ctx.Err()
}

func (s *servers) run(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.running = append(s.running, cmd)
	return nil
}

// stop ends what was started.
func (s *servers) stop() {
	for _, cmd := range s.running {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()
	}
}

func freePorts(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, nil
}

const nginxHead = `daemon off; worker_processes 1; pid %s/%s.pid; error_log stderr error;
%s
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests 100000000; client_body_buffer_size 64k; lingering_close off;
  client_body_temp_path %[2]s-body; proxy_temp_path %[2]s-proxy; fastcgi_temp_path %[2]s-f; uwsgi_temp_path %[2]s-u; scgi_temp_path %[2]s-s;
`

func backendConf(dir, listen string) string {
	return fmt.Sprintf(nginxHead, dir, "backend", "") + fmt.Sprintf(
		"  server { listen %s; location / { default_type application/json; return 200 '%s'; } }\n}\n", listen, body("out", newest-1, "Hello"))
}

// luaConf renames a field of the request and one of the answer, as the last pair of the record does.
func luaConf(dir, listen, backend string) string {
	return fmt.Sprintf(nginxHead, dir, "lua", "load_module /usr/lib/nginx/modules/ndk_http_module.so; load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;") +
		fmt.Sprintf(`  init_by_lua_block { cjson = require("cjson") }
  upstream backend { server %s; keepalive 64; keepalive_requests 100000000; }
  server { listen %s; location / {
    access_by_lua_block {
      ngx.req.read_body()
      local v = cjson.decode(ngx.req.get_body_data())
      v.in4, v.in3 = v.in3, nil
      ngx.req.set_body_data(cjson.encode(v))
    }
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://backend;
    header_filter_by_lua_block { ngx.header.content_length = nil }
    body_filter_by_lua_block {
      ngx.ctx.data = (ngx.ctx.data or "") .. ngx.arg[1]
      if not ngx.arg[2] then ngx.arg[1] = nil return end
      local v = cjson.decode(ngx.ctx.data)
      v.out3, v.out4 = v.out4, nil
      ngx.arg[1] = cjson.encode(v)
    }
  } }
}
`, backend, listen)
}

func haproxyConf(listen, backend string) string {
	return fmt.Sprintf(`global
  nbthread 2
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen bench
  bind %s
  server backend %s
`, listen, backend)
}

// record has five versions, v0 to v4, with a field renamed between each two. Each has a port of its own.
func record(ports []string) string {
	var b strings.Builder
	b.WriteString("service: greeter\nclient:\n  default: v4\n  ports: {")
	for i, p := range ports {
		_, port, _ := net.SplitHostPort(p)
		fmt.Fprintf(&b, "%s: v%d, ", port, i)
	}
	b.WriteString("}\nversions: [v0, v1, v2, v3, v4]\npairs:\n")
	for i := range newest - 1 {
		rule := "      otherwise: refuse\n      rules:\n        - name: greet\n          match: {method: [POST], path: /greet}\n" +
			"          request: [{rename: {from: in%d, to: in%d}}]\n          reply: [{rename: {from: out%d, to: out%d}}]\n"
		call := "{request: {method: POST, path: /greet, body: {in%[1]d: x}}, reply: {status: 200, body: {out%[1]d: y}}}"
		fmt.Fprintf(&b, "  - between: [v%d, v%d]\n    up:\n"+rule+"    down:\n"+rule, i, i+1, i, i+1, i+1, i, i+1, i, i, i+1)
		fmt.Fprintf(&b, "    transform: none\n    schedule: none\n    disallowed: none\n    examples:\n      - name: greet\n        old: %s\n        new: %s\n",
			fmt.Sprintf(call, i), fmt.Sprintf(call, i+1))
	}
	return b.String()
}

func shimConf(dir, backend string, ports []string) string {
	text := fmt.Sprintf("record: greeter.yaml\nserver: {address: '%s', version: v4}\ncontrol: %s/shim.sock\nlisten:\n", backend, dir)
	for _, p := range ports {
		text += fmt.Sprintf("  - address: '%s'\n", p)
	}
	return text
}

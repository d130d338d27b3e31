package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What differs from run to run, and what stands for it.
var rewritten = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`process \d+, drydock \S+`), "process PID, drydock VERSION"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "HOST:PORT"},
	{regexp.MustCompile(`\d+(\.\d+)?(ns|µs|ms)`), "TIME"},
	{regexp.MustCompile(` {2,}`), "  "},
	{regexp.MustCompile(`(?m)^  [-+] (Date|Content-Length|User-Agent|Accept-Encoding): .*\n`), ""},
}

func TestAShimIsServedShownTracedAndReloaded(t *testing.T) {
	home := newHome(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		if string(data) != `{"first":"Ada","language":"en"}` {
			http.Error(w, string(data), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"text":"Hello, Ada"}`)
	}))
	defer server.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	write(t, filepath.Join(home, "greeter.yaml"), recordsOf(t)["greeter"])
	config := "record: greeter.yaml\nserver: {address: '" + server.Listener.Addr().String() + "', version: v2}\nlisten: [{address: '" + address +
		"'}]\ncontrol: " + home + "/run/greeter.sock\n"
	write(t, filepath.Join(home, "shim.yaml"), config)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan result, 1)
	go func() { served <- runAt(ctx, strings.NewReader(""), "shim", "serve", "--config", home+"/shim.yaml") }()
	shim := func(args ...string) string {
		args = append([]string{"shim"}, append(args, "--dir", home+"/run")...)
		text := runAt(t.Context(), strings.NewReader(""), args...).transcript(home, args)
		for _, c := range rewritten {
			text = c.what.ReplaceAllString(text, c.by)
		}
		return text + "\n"
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if strings.Contains(shim("ls"), "serving") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(shim("ls"))
		}
	}
	var got bytes.Buffer
	traced := make(chan string, 1)
	go func() { traced <- shim("trace", "greeter", "--path", "/greet") }()
	var trace string
	for trace == "" {
		select {
		case trace = <-traced:
		case <-time.After(20 * time.Millisecond):
			greetOnce(t, address)
		}
	}
	got.WriteString(trace + shim("ls") + regexp.MustCompile(`(?m)^(v1  v2)  \d+|(v1 > v2)  \d+`).ReplaceAllString(shim("show", "greeter"), "$1$2  N") +
		shim("show", "absent") + shim("reload", "greeter") + shim("trace", "greeter", "--wait", "1ms") + shim("trace", "greeter", "--wait", "0s"))
	write(t, filepath.Join(home, "shim.yaml"), strings.Replace(config, "v2", "v7", 1))
	got.WriteString(shim("reload", "greeter") + shim("serve", "--config", home+"/shim.yaml") + shim("serve", "--config", home+"/none.yaml"))
	stop()
	if end := <-served; end.status != statusDone {
		t.Errorf("the shim ended with %+v", end)
	}
	got.WriteString(shim("ls") + shim("ls", "-o", "json"))
	compareGolden(t, "shim", got.String())
}

func greetOnce(t *testing.T, address string) {
	t.Helper()
	answer, err := http.Post("http://"+address+"/greet", "application/json", strings.NewReader(`{"name":"Ada"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("status %d", answer.StatusCode)
	}
	_, _ = io.Copy(io.Discard, answer.Body)
}

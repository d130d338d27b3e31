package process

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// notes has a v2 whose notes have a colour, and a v1 that cannot store it.
const notes = `service: notes
client: {default: v2}
versions: [v1, v2]
pairs:
  - between: [v1, v2]
    up: none
    down:
      otherwise: refuse
      rules:
        - name: a note
          match: {method: [GET, PUT, DELETE], path: '/notes/{id}'}
          request: [{keep: {field: colour, by: 'path:id'}}]
          reply: [{keep: {field: colour, by: 'path:id'}}]
        - name: all notes
          match: {method: [GET], path: /notes}
          reply: [{in: '[]', keep: {field: colour, by: id}}]
    transform: none
    schedule: none
    disallowed: none
    examples:
      - name: a note is written
        direction: down
        lossy: the shim keeps the colour
        new: {request: {method: PUT, path: /notes/7, body: {text: x, colour: red}}, reply: {status: 204}}
        old: {request: {method: PUT, path: /notes/7, body: {text: x}}, reply: {status: 204}}
      - name: a note is written and shown
        direction: down
        lossy: the shim keeps the colour
        new: {request: {method: PUT, path: /notes/7, body: {text: x, colour: red}}, reply: {status: 200, body: {text: x, colour: red}}}
        old: {request: {method: PUT, path: /notes/7, body: {text: x}}, reply: {status: 200, body: {text: x}}}
      - name: a note is read
        kept: {colour: {'7': red}}
        direction: down
        new: {request: {method: GET, path: /notes/7}, reply: {status: 200, body: {text: x, colour: red}}}
        old: {request: {method: GET, path: /notes/7}, reply: {status: 200, body: {text: x}}}
      - name: notes are listed
        kept: {colour: {'7': red}}
        direction: down
        new: {request: {method: GET, path: /notes}, reply: {status: 200, body: [{id: 6, text: y}, {id: 7, text: x, colour: red}]}}
        old: {request: {method: GET, path: /notes}, reply: {status: 200, body: [{id: 6, text: y}, {id: 7, text: x}]}}
`

// helper is the environment's name for the configuration of a shim that runs as a process of its own.
const helper = "DRYDOCK_TEST_SHIM"

func TestMain(m *testing.M) {
	if file := os.Getenv(helper); file != "" {
		if err := Run(context.Background(), file, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// board is a v1 of the service: it refuses a colour, and a text that it is told to.
func board(t *testing.T) string {
	var mu sync.Mutex
	texts := map[string]string{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		data, err := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		switch {
		case err != nil || strings.Contains(string(data), "colour") || strings.Contains(string(data), "bad"):
			w.WriteHeader(http.StatusBadRequest)
		case r.Method == http.MethodPut:
			texts[r.URL.Path] = string(data)
			w.WriteHeader(http.StatusNoContent)
		case r.Method == http.MethodDelete:
			delete(texts, r.URL.Path)
			w.WriteHeader(http.StatusNoContent)
		case texts[r.URL.Path] == "":
			w.WriteHeader(http.StatusNotFound)
		default:
			_, _ = io.WriteString(w, texts[r.URL.Path])
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func newNotes(t *testing.T) *shimFiles {
	f := newFiles(t)
	f.write(t, "notes.yaml", notes)
	f.write(t, "shim.yaml", fmt.Sprintf("record: notes.yaml\nserver: {address: '%s', version: v1}\nlisten: [{address: '%s'}]\ncontrol: %s\nstate: %s/state\n",
		board(t), f.addresses[0], f.control, f.dir))
	return f
}

// note makes a call and gives status and body; an error is status 0.
func note(client *http.Client, method, address, id, body string) (int, string) {
	r, err := http.NewRequest(method, "http://"+address+"/notes/"+id, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(data)
}

func TestAFieldThatTheServerCannotStoreIsKeptAndMerged(t *testing.T) {
	f := newNotes(t)
	run(t, f)
	client := newClient(t)
	for _, test := range []struct {
		method, body string
		status       int
		want         string
	}{
		{"PUT", `{"text":"x","colour":"red"}`, 204, ""}, {"GET", "", 200, `{"text":"x","colour":"red"}`},
		{"PUT", `{"text":"bad","colour":"blue"}`, 400, ""}, {"GET", "", 200, `{"text":"x","colour":"red"}`},
		{"PUT", `{"text":"y"}`, 204, ""}, {"GET", "", 200, `{"text":"y"}`},
		{"PUT", `{"text":"z","colour":{"r":1.10}}`, 204, ""}, {"GET", "", 200, `{"text":"z","colour":{"r":1.10}}`},
		{"DELETE", "", 204, ""}, {"PUT", `{"text":"new"}`, 204, ""}, {"GET", "", 200, `{"text":"new"}`},
	} {
		if status, body := note(client, test.method, f.addresses[0], "7", test.body); status != test.status || body != test.want {
			t.Errorf("%s %s: %d %s", test.method, test.body, status, body)
		}
	}
}

func TestARecordThatKeepsFieldsNeedsAPlaceForThem(t *testing.T) {
	f := newNotes(t)
	data, err := os.ReadFile(f.config)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(data), "state:")
	f.write(t, "shim.yaml", text)
	if _, err := start(t.Context(), f.config, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "state: missing") {
		t.Errorf("it says %v", err)
	}
}

// killed is a shim in a process of its own.
func killed(t *testing.T, f *shimFiles) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helper+"="+f.config)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("tcp", f.addresses[0]); err == nil {
			_ = c.Close()
			return cmd
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			t.Fatal("the shim does not listen")
		}
	}
}

func TestNoAcknowledgedFieldIsLostWhenTheShimIsKilled(t *testing.T) {
	f := newNotes(t)
	random := rand.New(rand.NewPCG(3, 5))
	acknowledged := map[string]string{}
	tried := map[string][]string{} // since then: the shim was killed before it answered, and the write may stand or not
	for round := range 6 {
		cmd := killed(t, f)
		client := &http.Client{Transport: &http.Transport{}}
		for id, colour := range acknowledged {
			status, body := note(client, "GET", f.addresses[0], id, "")
			stands := slices.ContainsFunc(append(tried[id], colour), func(c string) bool { return strings.Contains(body, `"colour":"`+c+`"`) })
			if status != 200 || !stands {
				t.Errorf("round %d: note %s is %d %s, and was acknowledged with %s", round, id, status, body, colour)
			}
		}
		kill := time.AfterFunc(time.Duration(20+random.IntN(150))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		for i := 0; ; i++ {
			id, colour := fmt.Sprint(random.IntN(20)), fmt.Sprintf("c%d-%d", round, i)
			tried[id] = append(tried[id], colour)
			status, _ := note(client, "PUT", f.addresses[0], id, `{"text":"x","colour":"`+colour+`"}`)
			if status == 0 {
				break
			}
			if status != 204 {
				t.Fatalf("status %d", status)
			}
			acknowledged[id], tried[id] = colour, nil
		}
		kill.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		client.CloseIdleConnections()
	}
	if len(acknowledged) < 10 {
		t.Errorf("only %d notes were written", len(acknowledged))
	}
}

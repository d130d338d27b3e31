package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestABodyThatNoRuleLooksIntoIsSentOnAsItComes(t *testing.T) {
	for name, client := range map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{}}, "HTTP/2": h2()} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/tenants/main/orders/7" || r.Header.Get("X-Tenant") != "" {
					t.Errorf("the server sees %s %v", r.URL, r.Header)
				}
				if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
					t.Error(err)
				}
				w.WriteHeader(http.StatusOK)
				for part := make([]byte, 5); ; {
					n, err := io.ReadFull(r.Body, part)
					_, _ = w.Write(part[:n])
					_ = http.NewResponseController(w).Flush()
					if err != nil {
						return
					}
				}
			}))
			defer server.Close()
			_, addr := start(t, Settings{Record: ordersRecord(t), Server: address(server), Version: "v3", MaxBody: 10}, "")
			defer client.CloseIdleConnections()
			from, to := io.Pipe()
			r, err := http.NewRequest("PUT", "http://"+addr+"/orders/7", from)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Orders-Version", "v2")
			r.Header.Set("Content-Type", "application/json")
			go func() { _, _ = to.Write([]byte("part0")) }()
			answer, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			for i := range 5 { // each part comes back before the next one is sent
				part := make([]byte, 5)
				if _, err := io.ReadFull(answer.Body, part); err != nil || string(part) != fmt.Sprint("part", i) {
					t.Fatalf("part %d came back as %q, %v", i, part, err)
				}
				go func() { _, _ = fmt.Fprint(to, "part", i+1) }()
			}
			if _, err := io.CopyN(io.Discard, answer.Body, 5); err != nil {
				t.Fatal(err)
			}
			_ = to.Close()
			if rest, err := io.ReadAll(answer.Body); err != nil || len(rest) != 0 {
				t.Errorf("%q remained, %v", rest, err)
			}
		})
	}
}

func TestAnAnswerThatCannotBeTranslatedIsATypedError(t *testing.T) {
	answers := map[string]func(http.ResponseWriter){
		"/orders/html": func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") },
		"/orders/packed": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			fmt.Fprint(w, "...")
		},
		"/orders/short": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"customer"`)
		},
		"/orders/twice": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"cents":1,"cents":2}`)
		},
		"/orders/deep": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, strings.Repeat("[", 2000))
		},
		"/orders/large": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `"`, strings.Repeat("x", 4096), `"`)
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" {
			t.Errorf("the server is asked for %s", r.Header.Get("Accept-Encoding"))
		}
		answers[r.URL.Path](w)
	}))
	defer server.Close()
	p, addr := start(t, Settings{Record: ordersRecord(t), Server: address(server), Version: "v2", MaxBody: 4096}, "")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for path := range answers {
		status, body := do(t, client, "v1", "GET", "http://"+addr+path, "")
		if status != http.StatusBadGateway || !strings.Contains(body, `"type":"urn:drydock:shim:`) || !strings.Contains(body, `"answered":true`) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if counts := p.Counts(); counts[0].Untranslatable != uint64(len(answers)) {
		t.Errorf("counted %+v", counts)
	}
}

package gate

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
)

func subject() Subject {
	return Subject{
		Host: &drydockv1.Host{Name: "h1", State: "ready", Info: &drydockv1.HostInfo{Kernel: "6.12.9", MemoryAvailableBytes: 8 << 30}},
		Pods: []*drydockv1.Pod{{Spec: &drydockv1.PodSpec{Name: "cache", Labels: map[string]string{"app": "redis"}}, Phase: drydockv1.PodPhase_POD_PHASE_RUNNING}},
	}
}

func ask(t *testing.T, spec Spec, s Subject) Verdict {
	t.Helper()
	if spec.Timeout == 0 {
		spec.Timeout = 10 * time.Second
	}
	spec.Name = "it"
	g, err := New(spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	return g.Ask(t.Context(), s)
}

func expect(t *testing.T, got Verdict, green bool, why string) {
	t.Helper()
	if got.Green != green || !strings.Contains(got.Why, why) || got.Gate != "it" {
		t.Errorf("got %+v, want green %v because of %q", got, green, why)
	}
}

func TestAPredicateSeesTheHostAndItsPods(t *testing.T) {
	for source, green := range map[string]bool{
		`host.state == "ready"`: true,
		`host.info.memory_available_bytes > 4 * 1024 * 1024 * 1024`:           true,
		`host.info.kernel.startsWith("6.12.")`:                                true,
		`pods.all(p, p.phase == PodPhase.POD_PHASE_RUNNING)`:                  true,
		`pods.exists(p, p.spec.labels["app"] == "redis")`:                     true,
		`host.info.uptime > duration("1h")`:                                   false,
		`size(pods) == 0`:                                                     false,
		`pods.exists(p, p.spec.labels["absent"] == "redis")`:                  false,
		`pods.all(p, p.containers.all(c, !has(c.healthy) || c.healthy))`:      true,
		`host.info.problems.size() == 0 && host.name.lowerAscii() == "h1"`:    true,
		`pods.map(p, p.spec.name) == ["cache"] && host.info.criu_version==""`: true,
	} {
		if got := ask(t, Spec{CEL: source}, subject()); got.Green != green || got.Why == "" {
			t.Errorf("%s: %+v", source, got)
		}
	}
}

func TestAPredicateOfAHostWithoutStatusIsRed(t *testing.T) {
	expect(t, ask(t, Spec{CEL: "true"}, Subject{}), false, "not known")
}

func TestAWrongPredicateIsRefusedWithItsPlace(t *testing.T) {
	for source, want := range map[string]ExpressionError{
		`host.stat == "ready"`:              {1, 5, "undefined field 'stat'"},
		"host.state == \"ready\" &&\n  pod": {2, 3, "undeclared reference"},
		`host.state == 3`:                   {1, 12, "no matching overload"},
		`host.state`:                        {1, 1, "needs a bool"},
		`host.state ==`:                     {1, 14, "Syntax error"},
	} {
		_, err := CompileCEL(source)
		var fault *ExpressionError
		if !errors.As(err, &fault) || fault.Line != want.Line || fault.Column != want.Column || !strings.Contains(fault.Message, want.Message) {
			t.Errorf("%s: %v, want %v", source, err, &want)
		}
	}
}

func TestAPredicateThatTakesTooLongIsRed(t *testing.T) {
	list := "[" + strings.Repeat("1,", 99) + "1]"
	source := list + ".all(a, " + list + ".all(b, " + list + ".all(c, " + list + ".all(d, a + b + c + d > 0))))"
	expect(t, ask(t, Spec{CEL: source, Timeout: time.Minute}, subject()), false, "cost limit")
}

func TestAnHTTPCheckIsGreenOnlyForTheAnswerThatIsWanted(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health/h1":
			_, _ = w.Write([]byte("all is well"))
		case "/teapot":
			w.WriteHeader(http.StatusTeapot)
		case "/moved":
			http.Redirect(w, r, "/health/h1", http.StatusFound)
		case "/secret":
			if r.Header.Get("Authorization") != "Bearer secret" {
				w.WriteHeader(http.StatusUnauthorized)
			}
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	for name, test := range map[string]struct {
		check HTTP
		green bool
		why   string
	}{
		"healthy":                  {HTTP{URL: "/health/{host}", Contains: "well"}, true, "answers 200"},
		"another text":             {HTTP{URL: "/health/{host}", Contains: "better"}, false, "does not contain"},
		"not found":                {HTTP{URL: "/x"}, false, "404"},
		"the status that is asked": {HTTP{URL: "/teapot", Status: 418}, true, "418"},
		"not the status asked":     {HTTP{URL: "/health/h1", Status: 204}, false, "200"},
		"redirected":               {HTTP{URL: "/moved"}, false, "302"},
		"with a token":             {HTTP{URL: "/secret", TokenFile: token}, true, "200"},
		"without the token":        {HTTP{URL: "/secret"}, false, "401"},
		"the token is gone":        {HTTP{URL: "/secret", TokenFile: token + "x"}, false, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			test.check.URL = server.URL + test.check.URL
			expect(t, ask(t, Spec{HTTP: &test.check}, subject()), test.green, test.why)
		})
	}
}

func TestAServerThatDoesNotAnswerIsRed(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(release)
	below := 1.0
	for _, spec := range []Spec{{HTTP: &HTTP{URL: server.URL}}, {Prometheus: &Prometheus{URL: server.URL, Query: "up", Below: &below}}} {
		spec.Timeout = 50 * time.Millisecond
		expect(t, ask(t, spec, subject()), false, "no answer within 50ms")
	}
}

func TestAServerThatIsGoneIsRed(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	expect(t, ask(t, Spec{HTTP: &HTTP{URL: server.URL}}, subject()), false, "refused")
}

func TestAQueryIsGreenOnlyWhereEverySampleIsWithinBounds(t *testing.T) {
	answers := map[string]string{
		"low":      `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"1"},"value":[1,"0.5"]},{"metric":{"a":"2"},"value":[1,"0.9"]}]}}`,
		"high":     `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"1"},"value":[1,"0.5"]},{"metric":{"a":"2"},"value":[1,"3"]}]}}`,
		"nan":      `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}}`,
		"inf":      `{"status":"success","data":{"resultType":"scalar","result":[1,"+Inf"]}}`,
		"scalar":   `{"status":"success","data":{"resultType":"scalar","result":[1,"0"]}}`,
		"empty":    `{"status":"success","data":{"resultType":"vector","result":[]}}`,
		"matrix":   `{"status":"success","data":{"resultType":"matrix","result":[]}}`,
		"error":    `{"status":"error","errorType":"bad_data","error":"parse error"}`,
		"warning":  `{"status":"success","warnings":["a store is away"],"data":{"resultType":"scalar","result":[1,"0"]}}`,
		"html":     `<html>`,
		"no value": `{"status":"success","data":{"resultType":"scalar","result":[1,0]}}`,
		"huge":     `{"status":"success","data":{"resultType":"scalar","result":[1,"0"]}}` + strings.Repeat(" ", maxBody),
		"on h1":    `{"status":"success","data":{"resultType":"scalar","result":[1,"0.2"]}}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/prefix/api/v1/query" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(answers[r.URL.Query().Get("query")]))
	}))
	defer server.Close()
	below, above := 1.0, 0.1
	for query, test := range map[string]struct {
		green bool
		why   string
		above *float64
	}{
		"low": {green: true, why: "below 1"}, "high": {why: `{"a":"2"}`}, "nan": {why: "NaN"}, "inf": {why: "+Inf"}, "scalar": {green: true, why: "below 1"},
		"empty": {why: "vector(0)"}, "matrix": {why: "matrix"}, "error": {why: "parse error"}, "warning": {why: "a store is away"},
		"html": {why: "no JSON"}, "no value": {why: "no value"}, "huge": {why: "more than"}, "on {host}": {green: true, why: "above 0.1 and below 1", above: &above},
	} {
		t.Run(query, func(t *testing.T) {
			p := &Prometheus{URL: server.URL + "/prefix/", Query: query, Below: &below, Above: test.above}
			expect(t, ask(t, Spec{Prometheus: p}, subject()), test.green, test.why)
		})
	}
	wrong := &Prometheus{URL: server.URL, Query: "low", Below: &below}
	expect(t, ask(t, Spec{Prometheus: wrong}, subject()), false, "404")
}

func TestAManualGateWaitsForAnOperator(t *testing.T) {
	s := subject()
	got := ask(t, Spec{Manual: "look at the canaries"}, s)
	if got.Green || !got.Waits || !strings.Contains(got.Why, "look at the canaries") {
		t.Errorf("without approval: %+v", got)
	}
	s.Approved = func(name string) (string, bool) { return "ada", name == "it" }
	if got := ask(t, Spec{Manual: "look at the canaries"}, s); !got.Green || got.Waits || got.Why != "approved by ada" {
		t.Errorf("with approval: %+v", got)
	}
	s.Approved = func(name string) (string, bool) { return "ada", name == "another" }
	if got := ask(t, Spec{Manual: "look at the canaries"}, s); got.Green {
		t.Error("another gate's approval opened this one")
	}
}

func TestAGateThatAsksNothingOrForEverIsRefused(t *testing.T) {
	for _, spec := range []Spec{{Name: "x", Timeout: time.Second}, {Name: "x", CEL: "true"}, {Name: "x", CEL: "1", Timeout: time.Second}} {
		if _, err := New(spec, nil); err == nil {
			t.Errorf("accepted %+v", spec)
		}
	}
}

func TestGatesAreAskedTogetherAndAnswerInOrder(t *testing.T) {
	var gates []*Gate
	for _, source := range []string{"true", "false", `host.name == "h1"`} {
		g, err := New(Spec{Name: source, CEL: source, Timeout: 10 * time.Second}, nil)
		if err != nil {
			t.Fatal(err)
		}
		gates = append(gates, g)
	}
	got := AskAll(context.Background(), gates, subject())
	if len(got) != 3 || !got[0].Green || got[1].Green || !got[2].Green || got[1].Gate != "false" {
		t.Errorf("got %+v", got)
	}
}

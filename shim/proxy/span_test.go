package proxy

import (
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestACallHasASpanBelowItsClients(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(spans))
	_, addr := start(t, Settings{Record: ordersRecord(t), Server: address(newShop(t, "v3")), Version: "v3", Tracer: provider.Tracer("shim")}, "")
	const parent = "4bf92f3577b34da6a3ce929d0e0e4736"
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, method := range []string{"GET", "DELETE"} {
		r, err := http.NewRequest(method, "http://"+addr+"/orders/7", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Traceparent", "00-"+parent+"-00f067aa0ba902b7-01")
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
	}
	ended := spans.Ended()
	if len(ended) != 2 {
		t.Fatalf("%d spans", len(ended))
	}
	for i, want := range []map[string]string{
		{"drydock.shim.client": "v1", "drydock.shim.server": "v3", "drydock.shim.hops": "2", "http.response.status_code": "404"},
		{"drydock.shim.client": "v1", "drydock.shim.refused": "disallowed"},
	} {
		if got := ended[i].SpanContext().TraceID().String(); got != parent {
			t.Errorf("span %d belongs to %s", i, got)
		}
		for _, a := range ended[i].Attributes() {
			if w, ok := want[string(a.Key)]; ok && a.Value.String() != w {
				t.Errorf("%s is %s, expected %s", a.Key, a.Value.String(), w)
			}
			delete(want, string(a.Key))
		}
		if len(want) > 0 {
			t.Errorf("span %d lacks %v", i, want)
		}
	}
}

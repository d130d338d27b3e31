package process

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// spans is a collector that keeps names.
type spans struct {
	otlp.UnimplementedTraceServiceServer
	names chan string
}

// Export takes spans.
func (s *spans) Export(_ context.Context, r *otlp.ExportTraceServiceRequest) (*otlp.ExportTraceServiceResponse, error) {
	for _, resource := range r.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				s.names <- span.Name
			}
		}
	}
	return &otlp.ExportTraceServiceResponse{}, nil
}

func TestSpansAreSentToTheCollectorAtTheLatestWhenTheShimEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, kept := grpc.NewServer(), &spans{names: make(chan string, 10)}
	otlp.RegisterTraceServiceServer(server, kept)
	go func() { _ = server.Serve(l) }() // it ends with the test
	t.Cleanup(server.Stop)
	f := newFiles(t)
	f.configure(t, greeter(t, "first"), "v2")
	data, err := os.ReadFile(f.config)
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, "shim.yaml", string(data)+"traces: '"+l.Addr().String()+"'\n")
	s := run(t, f)
	if got := greet(t, newClient(t), f.addresses[2], "v1", "name"); got != greeted {
		t.Fatal(got)
	}
	if err := (Client{f.control}).Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := greet(t, newClient(t), f.addresses[2], "v1", "name"); got != greeted {
		t.Fatal(got)
	}
	s.stop()
	for range 2 {
		select {
		case name := <-kept.names:
			if name != "shim greeter" {
				t.Errorf("a span is called %s", name)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("no span came")
		}
	}
}

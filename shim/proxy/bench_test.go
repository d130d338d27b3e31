package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The cost of the shim against a direct connection, which is measured in the same run, in turns.
func BenchmarkAgainstDirect(b *testing.B) {
	r := ordersRecord(b)
	for _, test := range []struct{ name, client, server, port string }{
		{"spliced", "v2", "v2", "v2"}, {"passed", "v2", "v2", ""}, {"one hop", "v1", "v2", ""}, {"two hops", "v1", "v3", ""},
	} {
		b.Run(test.name, func(b *testing.B) {
			shop := newShop(b, test.server)
			_, addr := start(b, Settings{Record: r, Server: address(shop), Version: test.server}, test.port)
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			through, direct := put(b, addr, test.client), put(b, address(shop), test.server)
			var spent [2]time.Duration
			b.ReportAllocs()
			for b.Loop() {
				for i, r := range []*http.Request{through, direct} {
					begun := time.Now()
					makeCall(b, client, r)
					spent[i] += time.Since(begun)
				}
			}
			b.ReportMetric(float64(spent[0])/float64(spent[1]), "x-direct")
			b.ReportMetric(float64(spent[0].Microseconds())/float64(b.N), "us/call")
		})
	}
}

func put(b *testing.B, addr, version string) *http.Request {
	b.Helper()
	body := encode(version, order{"Ada", "King", 1250})
	r, err := http.NewRequest("PUT", "http://"+addr+pathOf(version)+"/7", strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Orders-Version", version)
	r.Header.Set("X-Tenant", "main")
	return r
}

func makeCall(b *testing.B, client *http.Client, r *http.Request) {
	body, err := r.GetBody()
	if err != nil {
		b.Fatal(err)
	}
	r = r.Clone(b.Context())
	r.Body = body
	answer, err := client.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusNoContent {
		b.Fatalf("%d, %v", answer.StatusCode, err)
	}
	_ = answer.Body.Close()
}

package proxy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"drydock/shim/chain"
)

var versions = []string{"v1", "v2", "v3"}

// h2 is a client that speaks HTTP/2 without TLS.
func h2() *http.Client {
	return &http.Client{Transport: &http.Transport{Protocols: protocols(false, true)}}
}

func TestAWriteThroughOneVersionIsSeenThroughAllOthers(t *testing.T) {
	for _, serverVersion := range versions {
		for name, client := range map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{}}, "HTTP/2": h2()} {
			t.Run(serverVersion+" over "+name, func(t *testing.T) {
				_, addr := start(t, Settings{Record: ordersRecord(t), Server: address(newShop(t, serverVersion)), Version: serverVersion}, "")
				random := rand.New(rand.NewPCG(3, 5))
				written := map[string]order{}
				for i := range 150 {
					version, id := versions[random.IntN(3)], fmt.Sprint("o", random.IntN(7))
					url := "http://" + addr + pathOf(version) + "/" + id
					if random.IntN(2) == 0 {
						o := order{"Ada", fmt.Sprint("King ", i), random.Int64N(1 << 60)}
						if status, body := do(t, client, version, "PUT", url, encode(version, o)); status != http.StatusNoContent {
							t.Fatalf("%s PUT %s: %d %s", version, url, status, body)
						}
						written[id] = o
						continue
					}
					want, exists := written[id]
					status, body := do(t, client, version, "GET", url, "")
					if !exists {
						if status != http.StatusNotFound {
							t.Fatalf("%s GET %s: %d %s", version, url, status, body)
						}
						continue
					}
					got, err := decode(version, []byte(body))
					if err != nil || got != want {
						t.Fatalf("%s GET %s: %d %s, %v; expected %+v", version, url, status, body, err, want)
					}
				}
				client.CloseIdleConnections()
			})
		}
	}
}

func TestListsAreTranslated(t *testing.T) {
	_, addr := start(t, Settings{Record: ordersRecord(t), Server: address(newShop(t, "v3")), Version: "v3"}, "")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	do(t, client, "v1", "PUT", "http://"+addr+"/orders/1", `{"customer":"Ada King","total":92233720368547758.07}`)
	if status, body := do(t, client, "v1", "GET", "http://"+addr+"/orders?limit=1", ""); status != 200 || body != `[{"id":"1","total":92233720368547758.07,"customer":"Ada King"}]` {
		t.Errorf("v1 sees %d %s", status, body)
	}
	if status, body := do(t, client, "v2", "GET", "http://"+addr+"/orders", ""); status != 200 || !strings.HasPrefix(body, `{"orders":[{"id":"1","customer":{`) {
		t.Errorf("v2 sees %d %s", status, body)
	}
}

func TestRefusalsAreTypedAndCounted(t *testing.T) {
	p, addr := start(t, Settings{Record: ordersRecord(t), Server: address(newShop(t, "v2")), Version: "v2", MaxBody: 1000}, "")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, test := range []struct {
		name, version, method, path, body string
		status                            int
		kind                              string
	}{
		{"a disallowed call", "v1", "DELETE", "/orders/1", "", 501, "disallowed"},
		{"a call that no rule fits", "v1", "POST", "/other", "", 422, "untranslatable"},
		{"a body that does not fit", "v1", "PUT", "/orders/1", `{"customer":"Ada"}`, 422, "untranslatable"},
		{"a body that is no JSON", "v1", "PUT", "/orders/1", `customer=Ada`, 422, "untranslatable"},
		{"a body that is too large", "v1", "PUT", "/orders/1", `{"customer":"` + strings.Repeat("x", 1000) + `"}`, 413, "too-large"},
		{"an unknown version", "v9", "GET", "/orders/1", "", 400, "unknown-version"},
	} {
		status, body := do(t, client, test.version, test.method, "http://"+addr+test.path, test.body)
		var problem struct{ Type string }
		if err := json.Unmarshal([]byte(body), &problem); err != nil || status != test.status || problem.Type != "urn:drydock:shim:"+test.kind {
			t.Errorf("%s: %d %s", test.name, status, body)
		}
	}
	if status, _ := do(t, client, "v2", "PUT", "http://"+addr+"/orders/1", encode("v2", order{First: strings.Repeat("x", 2000)})); status != 204 {
		t.Errorf("a large body of the same version: %d", status)
	}
	want := []chain.Count{{Client: "v1", Server: "v2", Disallowed: 1, Untranslatable: 4}, {Client: "v2", Server: "v2", Passed: 1}}
	if diff := cmp.Diff(want, p.Counts()); diff != "" {
		t.Error(diff)
	}
}

func TestAServerThatIsGoneIsSaidInTheClientsProtocol(t *testing.T) {
	_, addr := start(t, Settings{Record: ordersRecord(t), Server: "127.0.0.1:1", Version: "v2"}, "")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	if status, body := do(t, client, "v1", "GET", "http://"+addr+"/orders/1", ""); status != 502 || !strings.Contains(body, "urn:drydock:shim:unreachable") {
		t.Errorf("%d %s", status, body)
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	_, addr := start(t, Settings{Record: ordersRecord(t), Server: address(newShop(t, "v3")), Version: "v3"}, "")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const n = 20
	for i := range n {
		body := encode("v1", order{"Ada", "King", int64(i)})
		fmt.Fprintf(c, "PUT /orders/%d HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", i, len(body), body)
		fmt.Fprintf(c, "GET /orders/%d HTTP/1.1\r\nHost: shop\r\n\r\n", i)
	}
	in := bufio.NewReader(c)
	for i := range n {
		for _, want := range []int{http.StatusNoContent, http.StatusOK} {
			answer, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(answer.Body)
			if err != nil || answer.StatusCode != want {
				t.Fatalf("answer %d: %d %s, %v", i, answer.StatusCode, data, err)
			}
			if want == http.StatusOK {
				if got, err := decode("v1", data); err != nil || got != (order{"Ada", "King", int64(i)}) {
					t.Fatalf("answer %d: %s, %v", i, data, err)
				}
			}
		}
	}
}

func TestBytesOfTheSameVersionAreSplicedWhateverTheirProtocol(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	_, addr := start(t, Settings{Record: ordersRecord(t), Server: echo.Addr().String(), Version: "v2"}, "v2")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := make([]byte, 1<<20)
	for i := range sent {
		sent[i] = byte(i * i)
	}
	go func() {
		_, _ = c.Write(sent)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != string(sent) {
		t.Errorf("%d bytes came back of %d, %v", len(got), len(sent), err)
	}
}

func TestSettingsChangeUnderLoadWithoutAFailedOrMixedCall(t *testing.T) {
	r := ordersRecord(t)
	settings := []Settings{
		{Record: r, Server: address(newShop(t, "v1")), Version: "v1"},
		{Record: r, Server: address(newShop(t, "v2")), Version: "v2"},
		{Record: r, Server: address(newShop(t, "v3")), Version: "v3"},
	}
	want := order{"Ada", "King", 1250}
	direct := &http.Client{Transport: &http.Transport{}}
	defer direct.CloseIdleConnections()
	for _, s := range settings {
		do(t, direct, s.Version, "PUT", "http://"+s.Server+pathOf(s.Version)+"/7", encode(s.Version, want))
	}
	p, addr := start(t, settings[0], "")
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for _, version := range versions {
		clients.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				status, body := do(t, client, version, "GET", "http://"+addr+pathOf(version)+"/7", "")
				if got, err := decode(version, []byte(body)); status != 200 || err != nil || got != want {
					t.Errorf("%s: %d %s, %v", version, status, body, err)
					return
				}
			}
		})
	}
	for i := range 200 {
		if err := p.Reconfigure(t.Context(), settings[i%3]); err != nil {
			t.Error(err)
		}
	}
	if err := p.Reconfigure(t.Context(), Settings{Record: r, Server: "x:1", Version: "v9"}); err == nil {
		t.Error("an unknown version was taken")
	}
	close(stop)
	clients.Wait()
}

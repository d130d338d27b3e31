package proxy

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"drydock/shim/flow"
)

// cache is two operators that belong together: one looks, before the route, and one keeps, behind it.
type cache struct {
	mu    sync.Mutex
	kept  map[string][]byte
	hits  atomic.Int64
	looks flow.Node[*call]
	keeps flow.Node[*call]
}

func newCache() *cache {
	c := &cache{kept: map[string][]byte{}}
	c.looks = flow.Node[*call]{Name: "look", Ports: []string{"miss", "hit"}, New: func() (flow.Operator[*call], error) { return look{c}, nil }}
	c.keeps = flow.Node[*call]{Name: "keep", New: func() (flow.Operator[*call], error) { return operator(c.keep), nil }}
	return c
}

type look struct{ *cache }

func (l look) Process(c *call) int {
	if c.err != nil || c.request.Method != http.MethodGet {
		return 0
	}
	l.mu.Lock()
	data, ok := l.kept[c.request.URL.Path]
	l.mu.Unlock()
	if !ok {
		return 0
	}
	l.hits.Add(1)
	c.response = answer(data)
	return 1
}

func answer(data []byte) *http.Response {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(bytes.NewReader(data)), ContentLength: int64(len(data)),
	}
}

func (c *cache) keep(p *call) error {
	if p.request.Method != http.MethodGet || p.response.StatusCode != http.StatusOK {
		return nil
	}
	data, err := io.ReadAll(p.response.Body)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.kept[p.request.URL.Path] = data
	c.mu.Unlock()
	p.response = answer(data)
	return nil
}

func TestAResponseCacheIsInsertedAndTakenOutAtFullLoad(t *testing.T) {
	s := Settings{Record: ordersRecord(t), Server: address(newShop(t, "v3")), Version: "v3"}
	p, addr := start(t, s, "")
	want := order{"Ada", "King", 1250}
	first := &http.Client{Transport: &http.Transport{}}
	defer first.CloseIdleConnections()
	do(t, first, "v3", "PUT", "http://"+addr+pathOf("v3")+"/7", encode("v3", want))
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
	c := newCache()
	for range 20 {
		insert := []flow.Edit[*call]{
			flow.Insert(c.looks, flow.Arc{From: "translate", To: "route"}, "miss"), flow.Insert(c.keeps, flow.Arc{From: "route", To: "compose"}, ""),
			flow.Connect[*call]("look", "hit", "compose"),
		}
		if _, err := p.flow.Update(t.Context(), insert...); err != nil {
			t.Fatal(err)
		}
		before := c.hits.Load()
		for c.hits.Load() < before+5 && t.Context().Err() == nil && !t.Failed() {
			do(t, first, "v2", "GET", "http://"+addr+"/orders/7", "")
		}
		if _, err := p.flow.Update(t.Context(), flow.Delete[*call]("look", "miss"), flow.Delete[*call]("keep", "")); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	clients.Wait()
}

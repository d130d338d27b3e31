package shop

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"drydock/internal/durable"
)

// Port is where a server listens, Dir where its volume is, and Kept where a transform finds what the pod's shim has kept.
const (
	Port = 8080
	Dir  = "/data"
	Kept = "/drydock/kept"
)

// Record is the service's upgrade record: v2 knows currencies, and there is a way back to v1; v3 knows notes, which the shim keeps
// for servers of v2.
const Record = `service: shop
client:
  header: X-Shop-Version
  default: v1
versions: [v1, v2, v3]
pairs:
  - between: [v1, v2]
    up:
      otherwise: pass
      rules:
        - name: write an order
          match: {method: [PUT], path: '/orders/{id}'}
          request:
            - rename: {from: cents, to: amount}
            - default: {field: currency, value: EUR}
        - name: read an order
          match: {method: [GET], path: '/orders/{id}'}
          reply:
            - rename: {from: amount, to: cents}
            - drop: {field: currency}
    down:
      otherwise: pass
      rules:
        - name: write an order
          match: {method: [PUT], path: '/orders/{id}'}
          when: body.currency == "EUR"
          request:
            - rename: {from: amount, to: cents}
            - drop: {field: currency}
        - name: read an order
          match: {method: [GET], path: '/orders/{id}'}
          reply:
            - rename: {from: cents, to: amount}
            - default: {field: currency, value: EUR}
    transform: {command: [/shop, transform, up], back: [/shop, transform, back], timeout: 1m}
    schedule: {kind: rolling, at-once: 1}
    disallowed: none
    examples:
      - name: an order is written
        old: {request: {method: PUT, path: /orders/7, body: {cents: 5}}, reply: {status: 204}}
        new: {request: {method: PUT, path: /orders/7, body: {amount: 5, currency: EUR}}, reply: {status: 204}}
      - name: an order is read
        old: {request: {method: GET, path: /orders/7}, reply: {status: 200, body: {cents: 5}}}
        new: {request: {method: GET, path: /orders/7}, reply: {status: 200, body: {amount: 5, currency: EUR}}}
  - between: [v2, v3]
    up:
      otherwise: pass
      rules:
        - name: read an order
          match: {method: [GET], path: '/orders/{id}'}
          reply:
            - drop: {field: note}
    down:
      otherwise: pass
      rules:
        - name: write an order
          match: {method: [PUT], path: '/orders/{id}'}
          request:
            - keep: {field: note, by: 'path:id'}
        - name: read an order
          match: {method: [GET], path: '/orders/{id}'}
          reply:
            - keep: {field: note, by: 'path:id'}
    transform: {command: [/shop, transform, notes], timeout: 1m}
    schedule: {kind: rolling, at-once: 1}
    disallowed: none
    examples:
      - name: an order is written
        direction: down
        lossy: the shim keeps the note
        new: {request: {method: PUT, path: /orders/7, body: {amount: 5, currency: EUR, note: gift}}, reply: {status: 204}}
        old: {request: {method: PUT, path: /orders/7, body: {amount: 5, currency: EUR}}, reply: {status: 204}}
      - name: an order is read
        direction: down
        kept: {note: {'7': gift}}
        new: {request: {method: GET, path: /orders/7}, reply: {status: 200, body: {amount: 5, currency: EUR, note: gift}}}
        old: {request: {method: GET, path: /orders/7}, reply: {status: 200, body: {amount: 5, currency: EUR}}}
      - name: an order with a note is read by one who knows none
        direction: up
        new: {request: {method: GET, path: /orders/7}, reply: {status: 200, body: {amount: 5, currency: EUR, note: gift}}}
        old: {request: {method: GET, path: /orders/7}, reply: {status: 200, body: {amount: 5, currency: EUR}}}
`

// Gateway, behind Record, leads calls for one order to one pod.
const Gateway = `route:
  - {match: {path: '/orders/{id}'}, by: 'path:id'}
gateway: {pod: shop-front, image: 'shop:v1', command: [/shop, idle], ports: [8080], health: /healthz}
`

// Versions are those that there is a server of.
var Versions = []string{"v1", "v2", "v3"}

// order has the fields of all versions; each uses its own.
type order struct {
	Cents    int64  `json:"cents,omitempty"`
	Amount   int64  `json:"amount,omitempty"`
	Currency string `json:"currency,omitempty"`
	Note     string `json:"note,omitempty"`
}

// is says whether an order has only what a version knows.
func (o order) is(version string) bool {
	switch version {
	case "v1":
		return o.Amount == 0 && o.Currency == "" && o.Note == ""
	case "v2":
		return o.Cents == 0 && o.Currency != "" && o.Note == ""
	}
	return o.Cents == 0 && o.Currency != ""
}

// file is what a version stores.
type file struct {
	Version string           `json:"version"`
	Orders  map[string]order `json:"orders"`
}

func path(dir string) string { return filepath.Join(dir, "orders.json") }

func load(dir, version string) (file, error) {
	data, err := os.ReadFile(path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return file{Version: version, Orders: map[string]order{}}, nil
	}
	var f file
	if err == nil {
		err = json.Unmarshal(data, &f)
	}
	if err == nil && f.Version != version {
		err = fmt.Errorf("%s is of version %s, not %s", path(dir), f.Version, version)
	}
	return f, err
}

func (f file) save(dir string) error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return durable.Replace(path(dir), data, 0o600)
}

// Handler serves a version over what lies in dir.
func Handler(dir, version string) (http.Handler, error) {
	f, err := load(dir, version)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("PUT /orders/{id}", func(w http.ResponseWriter, r *http.Request) {
		var o order
		decoder := json.NewDecoder(r.Body)
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&o); err != nil || !o.is(version) {
			http.Error(w, "not an order of "+version, http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		f.Orders[r.PathValue("id")] = o
		if err := f.save(dir); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /orders/{id}", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		o, ok := f.Orders[r.PathValue("id")]
		mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(o)
	})
	return mux, nil
}

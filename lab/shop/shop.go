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

// Port is where a server listens, and Dir where its volume is.
const (
	Port = 8080
	Dir  = "/data"
)

// Record is the service's upgrade record, with a way back.
const Record = `service: shop
client:
  header: X-Shop-Version
  default: v1
versions: [v1, v2]
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
    transform: {command: [/shop, up], back: [/shop, back], timeout: 1m}
    schedule: {kind: rolling, at-once: 1}
    disallowed: none
    examples:
      - name: an order is written
        old: {request: {method: PUT, path: /orders/7, body: {cents: 5}}, reply: {status: 204}}
        new: {request: {method: PUT, path: /orders/7, body: {amount: 5, currency: EUR}}, reply: {status: 204}}
      - name: an order is read
        old: {request: {method: GET, path: /orders/7}, reply: {status: 200, body: {cents: 5}}}
        new: {request: {method: GET, path: /orders/7}, reply: {status: 200, body: {amount: 5, currency: EUR}}}
`

// order has the fields of both versions; each uses its own.
type order struct {
	Cents    int64  `json:"cents,omitempty"`
	Amount   int64  `json:"amount,omitempty"`
	Currency string `json:"currency,omitempty"`
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

// Transform turns what a version has stored into what its neighbour understands: up, or back. An order of another currency has no
// way back.
func Transform(dir, direction string) error {
	from, to := "v1", "v2"
	if direction == "back" {
		from, to = to, from
	}
	f, err := load(dir, from)
	if err != nil {
		return err
	}
	for id, o := range f.Orders {
		switch {
		case direction == "up":
			f.Orders[id] = order{Amount: o.Cents, Currency: "EUR"}
		case o.Currency != "EUR":
			return fmt.Errorf("order %s is in %s, which %s does not know", id, o.Currency, to)
		default:
			f.Orders[id] = order{Cents: o.Amount}
		}
	}
	f.Version = to
	return f.save(dir)
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
		if err := decoder.Decode(&o); err != nil || (version == "v1") != (o.Currency == "") || version == "v1" && o.Amount != 0 || version == "v2" && o.Cents != 0 {
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

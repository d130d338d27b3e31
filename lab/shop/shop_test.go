package shop

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"drydock/shim/kept"
	"drydock/shim/message"
	"drydock/shim/record"
)

func call(t *testing.T, dir, version, method, target, body string) (int, string) {
	t.Helper()
	handler, err := Handler(dir, version)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
	return w.Code, strings.TrimSpace(w.Body.String())
}

func TestOrdersGoUpAndBack(t *testing.T) {
	dir := t.TempDir()
	if status, said := call(t, dir, "v1", http.MethodPut, "/orders/7", `{"cents":5}`); status != http.StatusNoContent {
		t.Fatal(status, said)
	}
	if _, err := Handler(dir, "v2"); err == nil {
		t.Error("v2 reads what v1 has stored")
	}
	if err := Transform(dir, t.TempDir(), "up"); err != nil {
		t.Fatal(err)
	}
	if _, said := call(t, dir, "v2", http.MethodGet, "/orders/7", ""); said != `{"amount":5,"currency":"EUR"}` {
		t.Error(said)
	}
	if err := Transform(dir, t.TempDir(), "back"); err != nil {
		t.Fatal(err)
	}
	if _, said := call(t, dir, "v1", http.MethodGet, "/orders/7", ""); said != `{"cents":5}` {
		t.Error(said)
	}
}

func TestAnOrderThatTheOldVersionCannotKnowHasNoWayBack(t *testing.T) {
	dir := t.TempDir()
	if status, said := call(t, dir, "v2", http.MethodPut, "/orders/7", `{"amount":5,"currency":"CHF"}`); status != http.StatusNoContent {
		t.Fatal(status, said)
	}
	if err := Transform(dir, t.TempDir(), "back"); err == nil {
		t.Error("it went back")
	}
}

func TestNotesThatAShimHasKeptBecomeThoseOfOrders(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	for _, id := range []string{"7", "8"} {
		if status, said := call(t, dir, "v2", http.MethodPut, "/orders/"+id, `{"amount":5,"currency":"EUR"}`); status != http.StatusNoContent {
			t.Fatal(status, said)
		}
	}
	store, err := kept.Open(state)
	if err != nil {
		t.Fatal(err)
	}
	note, err := message.ParseJSON([]byte(`"gift"`))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Pair("v2-v3").Keep("note", "7", note); err != nil {
		t.Fatal(err)
	}
	if err := Transform(dir, state, "notes"); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"7": `{"amount":5,"currency":"EUR","note":"gift"}`, "8": `{"amount":5,"currency":"EUR"}`} {
		if _, said := call(t, dir, "v3", http.MethodGet, "/orders/"+id, ""); said != want {
			t.Errorf("order %s: %s", id, said)
		}
	}
}

func TestTheRecordHasNoFault(t *testing.T) {
	files, err := Files()
	if err != nil {
		t.Fatal(err)
	}
	beside := fstest.MapFS{}
	for name, data := range files {
		beside[name] = &fstest.MapFile{Data: data}
	}
	for _, text := range []string{Record, Record + Gateway} {
		r, err := record.Parse("shop.yaml", []byte(text), beside)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.Check(t.Context()), r.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClientsAndServersOfAVersionUnderstandEachOther(t *testing.T) {
	for _, version := range Versions {
		handler, err := Handler(t.TempDir(), version)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(handler)
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetHTTP1(true)
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
		defer server.Close()
		dial, address := new(net.Dialer).DialContext, server.Listener.Addr().String()
		calls, err := NewGRPC(dial, address, version)
		if err != nil {
			t.Fatal(err)
		}
		plain := NewHTTP(dial, address, version)
		for _, c := range []struct {
			writer, reader Client
			id             string
		}{{plain, calls, "1"}, {calls, plain, "2"}, {calls, calls, "3"}} {
			want := Sold{Amount: 7, Note: "gift"}
			if served, err := c.writer.Put(t.Context(), c.id, want); err != nil || served != version {
				t.Errorf("%s: put order %s: %q, %v", version, c.id, served, err)
			}
			if got, served, err := c.reader.Get(t.Context(), c.id); err != nil || served != version || got != want.As(version) {
				t.Errorf("%s: get order %s: %v, %q, %v", version, c.id, got, served, err)
			}
		}
		if _, err := plain.Delete(t.Context(), "9"); (version == "v3") != (err == nil) {
			t.Errorf("%s: delete: %v", version, err)
		}
		if err := errors.Join(plain.Close(), calls.Close()); err != nil {
			t.Error(err)
		}
	}
}

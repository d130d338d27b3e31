package shop

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
	r, err := record.Parse("shop.yaml", []byte(Record), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

package chain

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drydock/shim/message"
)

func TestAWatchedCallIsShownBeforeAndAfterEachTranslator(t *testing.T) {
	var counter Counter
	c, err := line(t, 3).Plan("v0", "v2", &counter)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	ctx := Watching(t.Context(), func(p Passage) {
		seen = append(seen, p.Part+" "+p.From+" "+p.To+" "+string(p.Before.Body)+" "+string(p.After.Body)+" "+p.Before.Header.Get("Cookie"))
	})
	r := &message.Request{
		Method: "GET", Path: message.Path{"x"}, Header: http.Header{"Cookie": {"secret"}}, Body: message.NewBody([]byte(`{"f0": 1}`), message.JSON{}),
	}
	x, err := c.Request(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	answer := &message.Response{Status: 200, Body: message.NewBody([]byte(`{"f2": 2}`), message.JSON{})}
	if err := x.Response(ctx, answer); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`request v0 v1 {"f0":1} {"f1":1} (hidden)`, `request v1 v2 {"f1":1} {"f2":1} (hidden)`,
		`answer v1 v2 {"f2":2} {"f1":2} `, `answer v0 v1 {"f1":2} {"f0":2} `,
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
	if r.Header.Get("Cookie") != "secret" {
		t.Error("watching changed the call")
	}
	hops := counter.Hops()
	if len(hops) != 2 || hops[0].Times != 2 || hops[1].From != "v1" || hops[1].Total <= 0 || hops[1].UpTo[len(hops[1].UpTo)-1] > 2 {
		t.Errorf("%+v", hops)
	}
}

func TestAWatchIsToldWhyACallEndedAtATranslator(t *testing.T) {
	c, err := line(t, 3).Plan("v0", "v2", nil)
	if err != nil {
		t.Fatal(err)
	}
	var seen []Passage
	ctx := Watching(t.Context(), func(p Passage) { seen = append(seen, p) })
	if _, err := c.Request(ctx, &message.Request{Method: "GET", Path: message.Path{"no", "f2"}}); err == nil {
		t.Fatal("it was taken")
	}
	if len(seen) != 1 || seen[0].Refused == "" {
		t.Errorf("%+v", seen)
	}
}

func TestAHopCountsItsTimesByHowLongTheyTook(t *testing.T) {
	var counter Counter
	h := counter.hop("v1", "v2")
	for _, d := range []time.Duration{time.Microsecond, 5 * time.Microsecond, 80 * time.Microsecond, time.Minute} {
		h.took(d)
	}
	got := counter.Hops()
	if len(got) != 1 || got[0].Times != 4 || got[0].UpTo[0] != 2 || got[0].UpTo[4] != 3 || got[0].UpTo[len(got[0].UpTo)-1] != 3 {
		t.Errorf("%+v", got)
	}
}

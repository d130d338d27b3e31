package chain

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"drydock/shim/message"
	"drydock/shim/rules"

	"go.yaml.in/yaml/v3"
)

// between makes a translator that renames fields of requests and of replies, and takes one path only.
func between(t testing.TB, from, to, path string) message.Translator {
	t.Helper()
	var spec rules.Spec
	text := fmt.Sprintf(`
otherwise: refuse
rules:
  - name: %[1]s to %[2]s
    match: {path: %[3]s}
    request: [{rename: {from: %[1]s, to: %[2]s}}]
    reply: [{rename: {from: %[2]s, to: %[1]s}}]
`, from, to, path)
	if err := yaml.Unmarshal([]byte(text), &spec); err != nil {
		t.Fatal(err)
	}
	translator, problems := rules.Compile(spec, []rules.Forbidden{{Match: rules.Match{Path: "/no/" + to}, Reason: to + " has none"}})
	if len(problems) > 0 {
		t.Fatalf("%+v", problems)
	}
	return translator
}

// line has n versions v0, v1, ...; a field f0 of version v0 is f1 in v1, and so on.
func line(t testing.TB, n int) *Line {
	t.Helper()
	var versions []string
	var links []Link
	for i := range n {
		versions = append(versions, fmt.Sprintf("v%d", i))
		if i > 0 {
			older, newer := fmt.Sprintf("f%d", i-1), fmt.Sprintf("f%d", i)
			links = append(links, Link{Up: between(t, older, newer, "/x"), Down: between(t, newer, older, "/x")})
		}
	}
	l, err := NewLine("orders", versions, links)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func request(path, body string) *message.Request {
	p, _ := message.ParsePath(path)
	return &message.Request{Method: "POST", Path: p, Body: message.NewBody([]byte(body), message.JSON{})}
}

func text(t *testing.T, b *message.Body) string {
	t.Helper()
	data, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestEveryClientReachesEveryServerThroughNeighboursOnly(t *testing.T) {
	const n = 6
	l := line(t, n)
	for client := range n {
		for server := range n {
			c, err := l.Plan(fmt.Sprintf("v%d", client), fmt.Sprintf("v%d", server), nil)
			if err != nil {
				t.Fatal(err)
			}
			at := client
			for _, step := range c.Steps() {
				next := at + 1
				if server < client {
					next = at - 1
				}
				if step.From != fmt.Sprintf("v%d", at) || step.To != fmt.Sprintf("v%d", next) {
					t.Fatalf("v%d to v%d: a step from %s to %s", client, server, step.From, step.To)
				}
				at = next
			}
			r := request("/x", fmt.Sprintf(`{"f%d":1.0}`, client))
			x, err := c.Request(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf(`{"f%d":1.0}`, server)
			if got := text(t, &r.Body); got != want {
				t.Errorf("v%d to v%d: the server gets %s", client, server, got)
			}
			answer := &message.Response{Status: 200, Body: message.NewBody([]byte(want), message.JSON{})}
			if err := x.Response(t.Context(), answer); err != nil {
				t.Fatal(err)
			}
			if got := text(t, &answer.Body); got != fmt.Sprintf(`{"f%d":1.0}`, client) {
				t.Errorf("v%d to v%d: the client gets %s", client, server, got)
			}
			item := message.NewObject(message.Member{Name: fmt.Sprintf("f%d", server), Value: message.NewNull()})
			if err := x.ReplyItem(t.Context(), item); err != nil || item.String() != fmt.Sprintf(`{"f%d":null}`, client) {
				t.Errorf("v%d to v%d: the client gets the message %s, %v", client, server, item, err)
			}
		}
	}
}

func TestAnUnknownVersionIsAnErrorOfPlanning(t *testing.T) {
	l := line(t, 3)
	for _, ends := range [][2]string{{"v9", "v0"}, {"v0", "v9"}, {"", "v0"}} {
		_, err := l.Plan(ends[0], ends[1], nil)
		var unknown *UnknownVersionError
		if !errors.As(err, &unknown) || !slices.Equal(unknown.Known, []string{"v0", "v1", "v2"}) {
			t.Errorf("%v: %v", ends, err)
		}
	}
}

func TestALineNeedsEveryLink(t *testing.T) {
	for _, versions := range [][]string{nil, {"a"}, {"a", "b", "c"}, {"a", "a"}, {"a", ""}} {
		if _, err := NewLine("s", versions, []Link{{}}); err == nil {
			t.Errorf("versions %v with one link were taken", versions)
		}
	}
}

func TestRefusalsNameTheNeighboursAndAreCounted(t *testing.T) {
	var counter Counter
	c, err := line(t, 4).Plan("v3", "v0", &counter)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(err error) message.Refusal {
		var r *message.Refusal
		if !errors.As(err, &r) {
			t.Fatalf("refused by %v", err)
		}
		return *r
	}
	_, err = c.Request(t.Context(), request("/no/f2", `{}`))
	if diff := cmp.Diff(message.Refusal{Why: message.Disallowed, Service: "orders", From: "v3", To: "v2", Detail: "f2 has none"}, refused(err)); diff != "" {
		t.Error(diff)
	}
	_, err = c.Request(t.Context(), request("/x", `{"f3":1,"f1":2}`))
	if diff := cmp.Diff(message.Refusal{Why: message.Untranslatable, Service: "orders", From: "v2", To: "v1",
		Detail: "f2 to f1: rename f2: f1 is there already"}, refused(err)); diff != "" {
		t.Error(diff)
	}
	x, err := c.Request(t.Context(), request("/x", `{"f3":1}`))
	if err != nil {
		t.Fatal(err)
	}
	err = x.Response(t.Context(), &message.Response{Status: 200, Body: message.NewBody([]byte(`{"f0":1,"f2":1}`), message.JSON{})})
	if diff := cmp.Diff(message.Refusal{Why: message.Untranslatable, Service: "orders", From: "v2", To: "v1", Answered: true,
		Detail: "f2 to f1: rename f1: f2 is there already"}, refused(err)); diff != "" {
		t.Error(diff)
	}
	if again := refused(c.Refuse(err, false)); again.From != "v2" || !again.Answered {
		t.Errorf("a refusal of a step became %+v", again)
	}
	want := message.Refusal{Why: message.Untranslatable, Service: "orders", From: "v3", To: "v0", Answered: true, Detail: "cut off"}
	if diff := cmp.Diff(want, refused(c.Refuse(errors.New("cut off"), true))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Count{{Client: "v3", Server: "v0", Translated: 1, Disallowed: 1, Untranslatable: 3}}, counter.Counts()); diff != "" {
		t.Error(diff)
	}
}

// lookless fails where anybody reads a body.
type lookless struct{ t *testing.T }

func (l lookless) Decode([]byte) (*message.Value, error) {
	l.t.Error("the body was read")
	return message.NewNull(), nil
}
func (l lookless) Encode(*message.Value) ([]byte, error) {
	return nil, errors.New("the body was written")
}

func TestABodyThatNoStepNeedsIsNotRead(t *testing.T) {
	l, err := NewLine("s", []string{"a", "b", "c"}, []Link{{}, {}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Plan("a", "c", nil)
	if err != nil {
		t.Fatal(err)
	}
	r := request("/x", "")
	r.Body = message.NewBody([]byte("{ }"), lookless{t})
	x, err := c.Request(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, &r.Body); got != "{ }" {
		t.Errorf("the server gets %q", got)
	}
	if items, replies := x.Touches(); items || replies {
		t.Error("messages of streams are read for nothing")
	}
}

// counting is a codec that counts.
type counting struct{ decoded, encoded int }

func (c *counting) Decode(data []byte) (*message.Value, error) {
	c.decoded++
	return message.ParseJSON(data)
}

func (c *counting) Encode(v *message.Value) ([]byte, error) {
	c.encoded++
	return v.AppendJSON(nil), nil
}

func TestABodyIsReadAndWrittenOnceHoweverLongTheChain(t *testing.T) {
	c, err := line(t, 9).Plan("v0", "v8", nil)
	if err != nil {
		t.Fatal(err)
	}
	codec := &counting{}
	r := request("/x", "")
	r.Body = message.NewBody([]byte(`{"f0":1}`), codec)
	if _, err := c.Request(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := text(t, &r.Body); got != `{"f8":1}` || codec.decoded != 1 || codec.encoded != 1 {
		t.Errorf("%s after %d reads and %d writes", got, codec.decoded, codec.encoded)
	}
}

func TestCallsDoNotDisturbEachOther(t *testing.T) {
	var counter Counter
	l := line(t, 5)
	var group sync.WaitGroup
	const calls = 200
	for worker := range 4 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			for i := range calls {
				client, server := random.IntN(5), random.IntN(5)
				c, err := l.Plan(fmt.Sprintf("v%d", client), fmt.Sprintf("v%d", server), &counter)
				if err != nil {
					t.Error(err)
					return
				}
				r := request("/x", fmt.Sprintf(`{"f%d":%d}`, client, i))
				if _, err := c.Request(context.Background(), r); err != nil {
					t.Error(err)
				}
				if data, err := r.Body.Bytes(); err != nil || string(data) != fmt.Sprintf(`{"f%d":%d}`, server, i) {
					t.Errorf("v%d to v%d: %s, %v", client, server, data, err)
				}
			}
		})
	}
	group.Wait()
	total := uint64(0)
	for _, c := range counter.Counts() {
		total += c.Passed + c.Translated
	}
	if total != 4*calls {
		t.Errorf("%d calls were counted", total)
	}
}

// The cost of one, two and four hops for a request and its answer.
func BenchmarkHops(b *testing.B) {
	const rest = `"id":7,"customer":{"first":"Ada","last":"King"},"lines":[{"sku":"a","n":1},{"sku":"b","n":2}],"state":"open","note":"none"}`
	for _, hops := range []int{0, 1, 2, 4} {
		b.Run(fmt.Sprint(hops), func(b *testing.B) {
			c, err := line(b, 5).Plan("v0", fmt.Sprint("v", hops), nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				r := request("/x", `{"f0":1,`+rest)
				x, err := c.Request(b.Context(), r)
				if err != nil {
					b.Fatal(err)
				}
				answer := &message.Response{Status: 200, Body: message.NewBody([]byte(fmt.Sprintf(`{"f%d":1,`, hops)+rest), message.JSON{})}
				if err := x.Response(b.Context(), answer); err != nil {
					b.Fatal(err)
				}
				for _, body := range []*message.Body{&r.Body, &answer.Body} {
					if _, err := body.Bytes(); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

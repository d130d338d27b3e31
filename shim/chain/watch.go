package chain

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"drydock/shim/message"
)

// Passage is one part of a call at one translator.
type Passage struct {
	// From and To are the neighbours, as the request goes through them; answers go back.
	From string `json:"from"`
	To   string `json:"to"`
	// Part is request, message, answer or answer-message.
	Part   string        `json:"part"`
	Before View          `json:"before"`
	After  View          `json:"after"`
	Took   time.Duration `json:"took_ns"`
	// Refused is why the call ended here; empty where it went on.
	Refused string `json:"refused,omitempty"`
}

// View is what a part of a call looks like. Secrets in its header are hidden.
type View struct {
	Method string      `json:"method,omitempty"`
	Path   string      `json:"path,omitempty"`
	Status int         `json:"status,omitempty"`
	Header http.Header `json:"header,omitempty"`
	// Body is JSON; empty where there is none, it is not JSON, or it has not come yet.
	Body json.RawMessage `json:"body,omitempty"`
}

// Watch is shown every passage of a call. A stream's two directions may show theirs at the same time.
type Watch func(Passage)

type watchKey struct{}

// Watching makes a context whose call is shown to watch. It costs what it shows: only calls that are traced have one.
func Watching(ctx context.Context, watch Watch) context.Context {
	return context.WithValue(ctx, watchKey{}, watch)
}

func watchOf(ctx context.Context) Watch {
	watch, _ := ctx.Value(watchKey{}).(Watch)
	return watch
}

// pass takes one part of a call through one step, and times it.
func (c *Chain) pass(i int, watch Watch, part string, view func() View, translate func() error) error {
	p := Passage{From: c.steps[i].From, To: c.steps[i].To, Part: part}
	if watch != nil {
		p.Before = view()
	}
	begun := time.Now()
	err := translate()
	p.Took = time.Since(begun)
	c.steps[i].hop.took(p.Took)
	if watch != nil {
		if p.After = view(); err != nil {
			p.Refused = err.Error()
		}
		watch(p)
	}
	return err
}

func viewOfRequest(r *message.Request) View {
	path := r.Path.String()
	if len(r.Query) > 0 {
		path += "?" + r.Query.Encode()
	}
	return View{Method: r.Method, Path: path, Header: withoutSecrets(r.Header), Body: r.Body.Shown()}
}

func viewOfAnswer(r *message.Response) View {
	return View{Status: r.Status, Header: withoutSecrets(r.Header), Body: r.Body.Shown()}
}

func viewOfMessage(v *message.Value) View { return View{Body: v.AppendJSON(nil)} }

func withoutSecrets(in http.Header) http.Header {
	out := in.Clone()
	for _, name := range []string{"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie"} {
		if len(out[name]) > 0 {
			out[name] = []string{"(hidden)"}
		}
	}
	return out
}

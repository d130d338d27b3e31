package pki

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// at is a clock that stands.
type at struct{ time.Time }

func (a at) Now() time.Time                     { return a.Time }
func (at) After(time.Duration) <-chan time.Time { return nil }

func TestAHostThatCannotJoinIsToldWhyInOneLineWithARemedy(t *testing.T) {
	ca := newTestCA(t)
	address := serve(t, keep(t, ca, Identity{Kind: Controller, Name: "c"}, SystemClock{}), ControllerPolicy(), time.Now)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	own, err := NewToken(ca)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := NewToken(newTestCA(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		controller, token string
		clock             Clock
		again             bool
		want              []string
	}{
		"nobody listens":     {nobody, own.String(), SystemClock{}, true, []string{nobody, "connection refused", "see that it runs"}},
		"no such name":       {"nowhere.invalid:1", own.String(), SystemClock{}, true, []string{"nowhere.invalid", "see that it runs"}},
		"another CA":         {address, foreign.String(), SystemClock{}, false, []string{address, "not the one that the token is for", "drydock host join"}},
		"a clock that lags":  {address, own.String(), at{time.Now().AddDate(-30, 0, 0)}, false, []string{"clock", "holds from", "set the clocks"}},
		"a clock that leads": {address, own.String(), at{time.Now().AddDate(80, 0, 0)}, false, []string{"clock", "holds from", "set the clocks"}},
		"half a token":       {address, own.String()[:20], SystemClock{}, false, []string{"malformed", "copy all of what"}},
		"no address":         {"https://c/x", own.String(), SystemClock{}, false, []string{"no address", "https://HOST:PORT"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Join(t.Context(), JoinRequest{Controllers: []string{c.controller}, Token: c.token, Name: "h1", Dir: t.TempDir()}, c.clock)
			if err == nil {
				t.Fatal("it joined")
			}
			if errors.Is(err, ErrNoAnswer) != c.again {
				t.Errorf("whether to try again: %v", err)
			}
			if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), own.String()) {
				t.Errorf("not one line, or it tells the token: %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("it does not say %q: %v", want, err)
				}
			}
		})
	}
}

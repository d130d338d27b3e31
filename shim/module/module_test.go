package module

import (
	"strings"
	"sync"
	"testing"
	"time"

	"drydock/shim/chain"
	"drydock/shim/module/moduletest"
)

func code(t testing.TB, pkg string) []byte {
	t.Helper()
	return moduletest.Build(t, "../..", "shim/module/"+pkg)
}

func load(t testing.TB, pkg string, limits Limits) *Module {
	t.Helper()
	m, err := Load(t.Context(), pkg, code(t, pkg), limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if m.running != 0 {
			t.Errorf("%d instances were left", m.running)
		}
	})
	return m
}

func open(t testing.TB, m *Module, down bool) *Instance {
	t.Helper()
	i, err := m.Open(t.Context(), down)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

func TestAHostileModuleEndsForItsConnectionOnlyAndInTime(t *testing.T) {
	m := load(t, "moduletest/hostile", Limits{Memory: 16 << 20, Time: 300 * time.Millisecond, Output: 4 << 20})
	good := open(t, m, false)
	for data, want := range map[string]string{
		"loops for ever": "too long", "memory without end": "", "output without end": "more than 4194304 bytes", "calls without end": "",
		"known outcomes only": "a call that there cannot be", "panics": "", "recurses without end": "", "sleeps for an hour": "",
	} {
		t.Run(data, func(t *testing.T) {
			bad := open(t, m, false)
			begun := time.Now()
			_, err := bad.Data(t.Context(), ClientSide, []byte(data))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("it answers %v", err)
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			if _, err := bad.Data(t.Context(), ClientSide, []byte("x")); err == nil {
				t.Error("the instance goes on")
			}
			out, err := good.Data(t.Context(), ClientSide, []byte("x"))
			if err != nil || string(out.ToServer) != "x" || len(out.Calls) != 1 || out.Calls[0].Outcome != chain.Passed {
				t.Errorf("the other connection was hurt: %+v, %v", out, err)
			}
		})
	}
}

// What a module may not be, byte by byte: the header, a type of functions without parameters, and what is wrong.
func TestAModuleThatWantsMoreOrLacksTheInterfaceIsRefused(t *testing.T) {
	const head = "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00"
	for name, test := range map[string]struct{ code, want string }{
		"no module":        {"nonsense", "module x: "},
		"a host's call":    {head + "\x02\x0c\x01\x03env\x04evil\x00\x00", "it wants env.evil, which modules may not have"},
		"a file":           {head + "\x02\x24\x01\x16wasi_snapshot_preview1\x09path_open\x00\x00", "it wants wasi_snapshot_preview1.path_open, which modules may not have"},
		"a foreign memory": {head + "\x02\x0a\x01\x03env\x01m\x02\x00\x01", "it wants env.m, which modules may not have"},
		"no interface":     {head, "it exports no function drydock_"},
		"too much memory":  {head + "\x05\x04\x01\x00\x80\x20", "module x: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(t.Context(), "x", []byte(test.code), Limits{Memory: 1 << 20})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("it says %v", err)
			}
		})
	}
	if _, err := Load(t.Context(), "x", make([]byte, maxCode+1), Limits{}); err == nil {
		t.Error("it is too large, and was taken")
	}
}

func TestNoMoreInstancesRunThanTheLimitAndAClosedModuleServesThoseItHas(t *testing.T) {
	m := load(t, "moduletest/hostile", Limits{Instances: 2})
	first, second := open(t, m, false), open(t, m, false)
	if _, err := m.Open(t.Context(), false); err == nil {
		t.Error("a third one runs")
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	third := open(t, m, false)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Open(t.Context(), false); err == nil {
		t.Error("a closed module opens")
	}
	for _, i := range []*Instance{first, third} {
		if out, err := i.Data(t.Context(), ClientSide, []byte("x")); err != nil || string(out.ToServer) != "x" {
			t.Errorf("%+v, %v", out, err)
		}
	}
	_ = first.Close()
	_ = third.Close()
}

func TestConnectionsAtTheSameTimeDoNotMeet(t *testing.T) {
	m := load(t, "people/wasm", Limits{Time: time.Minute})
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			p, err := Open(t.Context(), []Step{{From: "v1", To: "v2", Module: m}})
			if err != nil {
				t.Error(err)
				return
			}
			defer p.Close()
			for range 50 {
				value := strings.Repeat("x", worker+1)
				out, err := p.Data(t.Context(), ClientSide, []byte("SET user:7:name "+value+"\r\n"))
				if err != nil || !strings.HasSuffix(string(out.ToServer), "\r\n"+value+"\r\n") {
					t.Errorf("%+v, %v", out, err)
					return
				}
				if out, err = p.Data(t.Context(), ServerSide, []byte(":1\r\n")); err != nil || string(out.ToClient) != "+OK\r\n" {
					t.Errorf("%+v, %v", out, err)
				}
			}
		})
	}
	group.Wait()
}

func TestAPipeThereAndBackGivesTheServerWhatTheClientSaid(t *testing.T) {
	m := load(t, "people/wasm", Limits{})
	p, err := Open(t.Context(), []Step{{From: "v2", To: "v1", Module: m, Down: true}, {From: "v1", To: "v1a"}, {From: "v1a", To: "v2", Module: m}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	out, err := p.Data(t.Context(), ClientSide, []byte("HGET user:7 name\r\nHSET user:7 age 36\r\nPING\r\n"))
	if err != nil || string(out.ToServer) != "*3\r\n$4\r\nHGET\r\n$6\r\nuser:7\r\n$4\r\nname\r\n"+"PING\r\n" {
		t.Errorf("%q, %v", out.ToServer, err)
	}
	if len(out.Calls) != 3 || out.Calls[1].Outcome != chain.Disallowed || out.Calls[1].Why == "" {
		t.Errorf("%+v", out.Calls)
	}
	if out, err = p.Data(t.Context(), ServerSide, []byte("$3\r\nAda\r\n+PONG\r\n")); err != nil ||
		string(out.ToClient) != "$3\r\nAda\r\n-DISALLOWED v1 has no age of a person; it has name and mail\r\n+PONG\r\n" {
		t.Errorf("%q, %v", out.ToClient, err)
	}
}

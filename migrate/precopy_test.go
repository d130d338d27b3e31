package migrate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/stack"
)

func TestRoundsEndWhenTheRestFitsOrShrinksNoMore(t *testing.T) {
	const memory = 1 << 30
	budget := emptyFreeze + 100*time.Millisecond
	first := round{memory, 4 * time.Second} // so 25 MiB take 100 ms
	mib := func(n int64) round { return round{bytes: n << 20, took: time.Second} }
	for name, c := range map[string]struct {
		done []round
		want string
	}{
		"none yet":                  {nil, ""},
		"the rest is not known":     {[]round{first}, ""},
		"it fits":                   {[]round{first, mib(25)}, "fits"},
		"it does not fit yet":       {[]round{first, mib(100)}, ""},
		"it shrinks until it fits":  {[]round{first, mib(100), mib(20)}, "fits"},
		"it shrinks no more":        {[]round{first, mib(100), mib(90)}, "shrinks no more"},
		"it shrinks, but not well":  {[]round{first, mib(200), mib(140), mib(100)}, "more would be copied"},
		"the pod writes everywhere": {[]round{first, mib(900)}, "more would be copied"},
		"rounds are many":           {[]round{first, mib(80), mib(60), mib(45), mib(36), mib(28), mib(27), mib(26)}, "no more rounds"},
		"an empty pod":              {[]round{{}, {}}, "fits"},
	} {
		r := &rounds{done: c.done, memory: memory, budget: budget}
		if got := r.stop(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestThePaceOfWritingIsMeasuredFromTheLastTwoRounds(t *testing.T) {
	r := &rounds{done: []round{{bytes: 1000, took: 2 * time.Second}, {bytes: 500, took: time.Second}}}
	if got := r.dirtied(); got != 250 {
		t.Errorf("%d bytes a second, want 250", got)
	}
	if got := (&rounds{done: r.done[:1]}).dirtied(); got != 0 {
		t.Errorf("%d bytes a second after one round, want 0 for not known", got)
	}
}

func TestImagesThatArrivedAreLinkedToTheRoundBefore(t *testing.T) {
	images := t.TempDir()
	arrived := map[string]int64{
		"web/pages-1.img": 1, "web.round-1/pages-1.img": 1, "web.round-2/pages-1.img": 1, "web.round-10/pages-1.img": 1, "cache/pages-1.img": 1,
	}
	for n := range 10 {
		arrived[roundDir("web", n+1)+"/pages-1.img"] = 1
	}
	for name := range arrived {
		if err := os.MkdirAll(filepath.Join(images, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	spec := &drydockv1.PodSpec{Containers: []*drydockv1.Container{{Name: "web"}, {Name: "cache"}}}
	for range 2 { // an agent that was restarted does it again
		if err := linkParents(images, spec, arrived); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	for name := range arrived {
		if to, err := os.Readlink(filepath.Join(images, filepath.Dir(name), parentLink)); err == nil {
			got[filepath.Dir(name)] = to
		}
	}
	want := map[string]string{"web": "../web.round-10"}
	for n := 2; n <= 10; n++ {
		want[roundDir("web", n)] = "../" + roundDir("web", n-1)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPrecopyIsRefusedWhereItCannotWork(t *testing.T) {
	const mib = 1 << 20
	can := func(free int64) *drydockv1.HostInfo {
		return &drydockv1.HostInfo{CriuFeatures: map[string]bool{stack.TracksWrites: true}, MemoryAvailableBytes: free}
	}
	for name, c := range map[string]struct {
		here, there *drydockv1.HostInfo
		want        string
	}{
		"both have room":            {can(200 * mib), can(300 * mib), ""},
		"no tracking":               {&drydockv1.HostInfo{MemoryAvailableBytes: 900 * mib}, can(900 * mib), "the kernel of h1"},
		"no room at the source":     {can(199 * mib), can(900 * mib), "h1: copies"},
		"no room at the other side": {can(900 * mib), can(299 * mib), "h2: the pod and copies"},
	} {
		m := &move{spec: &drydockv1.MigrationSpec{From: "h1", To: "h2"}, needs: &drydockv1.PodNeeds{MemoryBytes: 100 * mib}}
		why, remedy := m.cannotPrecopy(c.here, c.there)
		if (why == "") != (c.want == "") || !strings.Contains(why, c.want) || (why == "") != (remedy == "") {
			t.Errorf("%s: %q (%q), want %q", name, why, remedy, c.want)
		}
	}
}

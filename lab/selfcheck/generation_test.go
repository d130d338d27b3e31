package selfcheck

import (
	"testing"
)

func beat(t *testing.T, b *Beater, times int) {
	t.Helper()
	for range times {
		if err := b.Beat(); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, dir string) Generation {
	t.Helper()
	g, err := ReadGeneration(dir)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestACopyThatRunsAloneFindsNoViolation(t *testing.T) {
	dir := t.TempDir()
	b, err := NewBeater(dir, NewInstance())
	if err != nil {
		t.Fatal(err)
	}
	beat(t, b, 10)
	moved := *b // as a restore has it
	beat(t, &moved, 10)
	if g := read(t, dir); g.Counter != 20 || g.Violations != 0 || len(g.Events) != 1 || g.Events[0].What != "started" {
		t.Errorf("got %+v, want 20 beats and no violation", g)
	}
}

func TestARestartedProgramFindsNoViolation(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		b, err := NewBeater(dir, NewInstance())
		if err != nil {
			t.Fatal(err)
		}
		beat(t, b, 10)
	}
	if g := read(t, dir); g.Counter != 20 || g.Violations != 0 || len(g.Events) != 2 {
		t.Errorf("got %+v, want 20 beats and no violation", g)
	}
}

func TestASourceThatIsResumedAfterTheMoveIsFoundOut(t *testing.T) {
	dir := t.TempDir()
	source, err := NewBeater(dir, NewInstance())
	if err != nil {
		t.Fatal(err)
	}
	beat(t, source, 10)
	moved := *source
	beat(t, &moved, 1)
	beat(t, source, 1)
	g := read(t, dir)
	if g.Violations != 1 || g.Events[len(g.Events)-1].What != "violation" {
		t.Errorf("got %+v, want the source's beat found out", g)
	}
}

func TestTwoCopiesAreFoundOutHoweverTheirBeatsInterleave(t *testing.T) {
	for order := range 1 << 4 {
		dir := t.TempDir()
		first, err := NewBeater(dir, NewInstance())
		if err != nil {
			t.Fatal(err)
		}
		beat(t, first, 3)
		second := *first
		copies := []*Beater{first, &second}
		for i := range 4 {
			beat(t, copies[order>>i&1], 1)
		}
		both := order != 0 && order != 1<<4-1
		if g := read(t, dir); (g.Violations > 0) != both {
			t.Errorf("order %04b: %d violations", order, g.Violations)
		}
	}
}

func TestANewInstanceBesideARunningOneIsFoundOut(t *testing.T) {
	dir := t.TempDir()
	first, err := NewBeater(dir, NewInstance())
	if err != nil {
		t.Fatal(err)
	}
	beat(t, first, 5)
	second, err := NewBeater(dir, NewInstance())
	if err != nil {
		t.Fatal(err)
	}
	beat(t, second, 1)
	beat(t, first, 1)
	if g := read(t, dir); g.Violations != 1 {
		t.Errorf("got %+v, want one violation", g)
	}
}

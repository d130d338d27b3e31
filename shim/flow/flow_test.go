package flow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// packet remembers where it was.
type packet struct {
	number int
	trail  []string
}

type operator func(*packet) int

func (o operator) Process(p *packet) int { return o(p) }

// stamp is a node that leaves its name.
func stamp(name, generation string) Node[*packet] {
	return Node[*packet]{Name: name, New: func() (Operator[*packet], error) {
		return operator(func(p *packet) int {
			p.trail = append(p.trail, name+generation)
			return 0
		}), nil
	}}
}

// fork sends odd packets by its second port.
func fork(generation string) Node[*packet] {
	n := stamp("fork", generation)
	n.Ports = []string{"even", "odd"}
	inner := n.New
	n.New = func() (Operator[*packet], error) {
		o, err := inner()
		return operator(func(p *packet) int {
			o.Process(p)
			return p.number % 2
		}), err
	}
	return n
}

// diamond is a -> fork -> (even: b, odd: c) -> d.
func diamond() Graph[*packet] {
	return Graph[*packet]{
		Nodes: []Node[*packet]{stamp("a", "1"), fork("1"), stamp("b", "1"), stamp("c", "1"), stamp("d", "1")},
		Arcs: []Arc{{To: "a"}, {From: "a", To: "fork"}, {"fork", "even", "b"}, {"fork", "odd", "c"}, {From: "b", To: "d"}, {From: "c", To: "d"},
			{From: "d"}},
	}
}

// trails sends packets through a new lane, with change in between, and gives their trails.
func trails(t *testing.T, f *Flow[*packet], before, after int, change func()) []string {
	t.Helper()
	var out []string
	lane, err := f.Lane(func(p *packet) { out = append(out, fmt.Sprint(p.number, " ", strings.Join(p.trail, " "))) })
	if err != nil {
		t.Fatal(err)
	}
	for i := range before + after {
		if i == before {
			change()
		}
		if err := lane.Send(t.Context(), &packet{number: i}); err != nil {
			t.Fatal(err)
		}
	}
	lane.Close()
	return out
}

func TestChangesApplyBetweenPackets(t *testing.T) {
	for _, test := range []struct {
		name  string
		edits []Edit[*packet]
		want  []string
	}{
		{"nothing", nil, []string{"0 a1 fork1 b1 d1", "1 a1 fork1 c1 d1", "2 a1 fork1 b1 d1", "3 a1 fork1 c1 d1"}},
		{"replace", []Edit[*packet]{Replace(stamp("d", "2"))}, []string{"0 a1 fork1 b1 d1", "1 a1 fork1 c1 d1", "2 a1 fork1 b1 d2", "3 a1 fork1 c1 d2"}},
		{"replace two that belong together", []Edit[*packet]{Replace(stamp("a", "2")), Replace(stamp("d", "2"))},
			[]string{"0 a1 fork1 b1 d1", "1 a1 fork1 c1 d1", "2 a2 fork1 b1 d2", "3 a2 fork1 c1 d2"}},
		{"insert at the entry", []Edit[*packet]{Insert(stamp("x", "1"), Arc{To: "a"}, "")},
			[]string{"0 a1 fork1 b1 d1", "1 a1 fork1 c1 d1", "2 x1 a1 fork1 b1 d1", "3 x1 a1 fork1 c1 d1"}},
		{"insert at the exit", []Edit[*packet]{Insert(stamp("x", "1"), Arc{From: "d"}, "")},
			[]string{"0 a1 fork1 b1 d1", "1 a1 fork1 c1 d1", "2 a1 fork1 b1 d1 x1", "3 a1 fork1 c1 d1 x1"}},
		{"insert in a branch", []Edit[*packet]{Insert(stamp("x", "1"), Arc{"fork", "odd", "c"}, "")},
			[]string{"0 a1 fork1 b1 d1", "1 a1 fork1 c1 d1", "2 a1 fork1 b1 d1", "3 a1 fork1 x1 c1 d1"}},
		{"delete", []Edit[*packet]{Delete[*packet]("a", ""), Delete[*packet]("d", "")},
			[]string{"0 a1 fork1 b1 d1", "1 a1 fork1 c1 d1", "2 fork1 b1", "3 fork1 c1"}},
		{"delete and insert under the same name", []Edit[*packet]{Delete[*packet]("d", ""), Insert(stamp("d", "2"), Arc{From: "b"}, "")},
			[]string{"0 a1 fork1 b1 d1", "1 a1 fork1 c1 d1", "2 a1 fork1 b1 d2", "3 a1 fork1 c1"}},
		{"delete a branch", []Edit[*packet]{Connect[*packet]("fork", "odd", "b"), Delete[*packet]("c", "")},
			[]string{"0 a1 fork1 b1 d1", "1 a1 fork1 c1 d1", "2 a1 fork1 b1 d1", "3 a1 fork1 b1 d1"}},
		{"connect around", []Edit[*packet]{Connect[*packet]("b", "", "")},
			[]string{"0 a1 fork1 b1 d1", "1 a1 fork1 c1 d1", "2 a1 fork1 b1", "3 a1 fork1 c1 d1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, err := New(diamond(), 8)
			if err != nil {
				t.Fatal(err)
			}
			got := trails(t, f, 2, 2, func() {
				if _, err := f.Update(t.Context(), test.edits...); err != nil {
					t.Error(err)
				}
			})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnInvalidChangeIsRefusedAndLeavesTheOldGraph(t *testing.T) {
	broken := stamp("x", "1")
	broken.New = nil
	fails := stamp("a", "2")
	fails.New = func() (Operator[*packet], error) { return nil, errors.New("no memory") }
	twoPorts := stamp("a", "2")
	twoPorts.Ports = []string{"", "other"}
	for _, test := range []struct {
		name  string
		edits []Edit[*packet]
		want  string
	}{
		{"a node that is not there", []Edit[*packet]{Replace(stamp("z", "1"))}, "there is no node z"},
		{"an arc that is not there", []Edit[*packet]{Insert(stamp("x", "1"), Arc{"a", "", "d"}, "")}, "no arc leads from"},
		{"a name that is taken", []Edit[*packet]{Insert(stamp("b", "1"), Arc{To: "a"}, "")}, "there is a node b already"},
		{"a circle", []Edit[*packet]{Connect[*packet]("d", "", "a")}, "a circle leads through a"},
		{"a node off the way", []Edit[*packet]{Connect[*packet]("fork", "odd", "d")}, "no way leads to c"},
		{"an arc into nothing", []Edit[*packet]{Connect[*packet]("d", "", "z")}, "an arc leads to z, which does not exist"},
		{"a port that is none", []Edit[*packet]{Connect[*packet]("d", "side", "")}, `an arc begins at d, port "side", which does not exist`},
		{"a port without arc", []Edit[*packet]{Replace(twoPorts)}, `0 arcs leave a by port "other", not one`},
		{"a second entry", []Edit[*packet]{Connect[*packet]("", "x", "b")}, `an arc begins at , port "x", which does not exist`},
		{"a node without operator", []Edit[*packet]{Insert(broken, Arc{To: "a"}, "")}, "node x makes no operator"},
		{"the second of two edits", []Edit[*packet]{Replace(stamp("d", "2")), Delete[*packet]("z", "")}, "delete z: there is no node z"},
		{"an operator that cannot be made", []Edit[*packet]{Replace(stamp("d", "2")), Replace(fails)}, "operator a: no memory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, err := New(diamond(), 8)
			if err != nil {
				t.Fatal(err)
			}
			got := trails(t, f, 1, 1, func() {
				if _, err := f.Update(t.Context(), test.edits...); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("it ended with %v", err)
				}
			})
			if diff := cmp.Diff([]string{"0 a1 fork1 b1 d1", "1 a1 fork1 c1 d1"}, got); diff != "" {
				t.Error(diff)
			}
			if _, version := f.Graph(); version != 0 {
				t.Errorf("the version is %d", version)
			}
		})
	}
}

func TestAChangeThatIsAbandonedLeavesTheOldGraph(t *testing.T) {
	f, err := New(diamond(), 8)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	closed := 0
	n := stamp("a", "2")
	n.New = func() (Operator[*packet], error) {
		cancel()
		return closer{func() { closed++ }}, nil
	}
	got := trails(t, f, 1, 1, func() {
		if _, err := f.Update(ctx, Replace(n)); !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	})
	if diff := cmp.Diff([]string{"0 a1 fork1 b1 d1", "1 a1 fork1 c1 d1"}, got); diff != "" {
		t.Error(diff)
	}
	if closed != 1 {
		t.Errorf("the new operator was closed %d times", closed)
	}
}

type closer struct{ closed func() }

func (c closer) Process(*packet) int { return 0 }
func (c closer) Close()              { c.closed() }

// counter stamps packets with how many it has seen.
type counter struct{ seen int }

func (c *counter) Process(p *packet) int {
	c.seen++
	p.trail = append(p.trail, fmt.Sprint(c.seen))
	return 0
}

func (c *counter) Adopt(old Operator[*packet]) {
	if o, ok := old.(*counter); ok {
		c.seen = o.seen + 100
	}
}

func TestAReplacedOperatorHandsOverItsState(t *testing.T) {
	node := Node[*packet]{Name: "n", New: func() (Operator[*packet], error) { return &counter{}, nil }}
	f, err := New(Line(node), 8)
	if err != nil {
		t.Fatal(err)
	}
	got := trails(t, f, 2, 2, func() {
		if _, err := f.Update(t.Context(), Replace(node)); err != nil {
			t.Error(err)
		}
	})
	if diff := cmp.Diff([]string{"0 1", "1 2", "2 103", "3 104"}, got); diff != "" {
		t.Error(diff)
	}
}

// gate lets packets through one by one.
func gate(name string, open chan struct{}) Node[*packet] {
	n := stamp(name, "1")
	inner := n.New
	n.New = func() (Operator[*packet], error) {
		o, err := inner()
		return operator(func(p *packet) int {
			<-open
			return o.Process(p)
		}), err
	}
	return n
}

func TestAJoinWaitsForTheMarkerOnEveryArc(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		g := diamond()
		g.Nodes[2] = gate("b", open)
		var atJoin []string
		join := func(generation string) Node[*packet] {
			return Node[*packet]{Name: "d", New: func() (Operator[*packet], error) {
				return operator(func(p *packet) int {
					atJoin = append(atJoin, fmt.Sprint(p.number, " by ", generation))
					return 0
				}), nil
			}}
		}
		g.Nodes[4] = join("old")
		f, err := New(g, 8)
		if err != nil {
			t.Fatal(err)
		}
		var delivered []int
		lane, err := f.Lane(func(p *packet) { delivered = append(delivered, p.number) })
		if err != nil {
			t.Fatal(err)
		}
		send := func(number int) {
			if err := lane.Send(t.Context(), &packet{number: number}); err != nil {
				t.Fatal(err)
			}
		}
		send(0) // by b, which is shut
		send(1) // by c
		change, err := f.Update(t.Context(), Replace(join("new")))
		if err != nil {
			t.Fatal(err)
		}
		send(3) // by c, behind the marker
		synctest.Wait()
		if diff := cmp.Diff([]string{"1 by old"}, atJoin); diff != "" {
			t.Error(diff)
		}
		select {
		case <-change.Done:
			t.Error("the change is done while an old packet is under way")
		default:
		}
		close(open)
		<-change.Done
		lane.Close()
		if diff := cmp.Diff([]string{"1 by old", "0 by old", "3 by new"}, atJoin); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]int{0, 1, 3}, delivered); diff != "" {
			t.Errorf("the order of leaving: %s", diff)
		}
	})
}

func TestASlowLaneDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		f, err := New(Line(Node[*packet]{Name: "n", New: func() (Operator[*packet], error) {
			return operator(func(p *packet) int {
				if p.number < 0 {
					<-open
				}
				return 0
			}), nil
		}}), 2)
		if err != nil {
			t.Fatal(err)
		}
		slow, err := f.Lane(func(*packet) {})
		if err != nil {
			t.Fatal(err)
		}
		if err := slow.Send(t.Context(), &packet{number: -1}); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if _, err := f.Update(t.Context(), Insert(stamp(fmt.Sprint("x", i), ""), Arc{To: []string{"n", "x0", "x1"}[i]}, "")); err != nil {
				t.Fatal(err)
			}
		}
		got := trails(t, f, 0, 1, func() {})
		if diff := cmp.Diff([]string{"0 x2 x1 x0"}, got); diff != "" {
			t.Error(diff)
		}
		close(open)
		slow.Close()
	})
}

func TestAFullLaneWaitsAndAClosedOneRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		f, err := New(Line(gate("n", open)), 1)
		if err != nil {
			t.Fatal(err)
		}
		lane, err := f.Lane(func(*packet) {})
		if err != nil {
			t.Fatal(err)
		}
		if err := lane.Send(t.Context(), &packet{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			synctest.Wait()
			cancel()
		}()
		if err := lane.Send(ctx, &packet{}); !errors.Is(err, context.Canceled) {
			t.Errorf("a full lane says %v", err)
		}
		close(open)
		lane.Close()
		lane.Close()
		if err := lane.Send(t.Context(), &packet{}); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed lane says %v", err)
		}
		f.Close()
		if _, err := f.Lane(nil); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed flow says %v", err)
		}
		if _, err := f.Update(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed flow says %v", err)
		}
	})
}

func TestOperatorsAreClosedOnce(t *testing.T) {
	closed := map[string]int{}
	node := func(name string) Node[*packet] {
		return Node[*packet]{Name: "n", New: func() (Operator[*packet], error) { return closer{func() { closed[name]++ }}, nil }}
	}
	f, err := New(Line(node("old")), 1)
	if err != nil {
		t.Fatal(err)
	}
	trails(t, f, 1, 1, func() {
		if _, err := f.Update(t.Context(), Replace(node("new"))); err != nil {
			t.Error(err)
		}
	})
	if diff := cmp.Diff(map[string]int{"old": 1, "new": 1}, closed); diff != "" {
		t.Error(diff)
	}
	if f.Lanes() != 0 {
		t.Errorf("%d lanes are open", f.Lanes())
	}
}

func TestAGraphIsGivenOutAsACopy(t *testing.T) {
	f, err := New(diamond(), 1)
	if err != nil {
		t.Fatal(err)
	}
	g, _ := f.Graph()
	g.Arcs[0].To = "d"
	again, _ := f.Graph()
	if !slices.Equal(again.Arcs, diamond().Arcs) {
		t.Errorf("the graph became %v", again.Arcs)
	}
}

package flow

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// changes is how many are made under load.
const changes = 1000

// model changes a graph at random and knows the trails that its packets must leave.
type model struct {
	random     *rand.Rand
	generation int
	before     []string // nodes between the entry and the fork
	after      []string // between the join and the exit
	names      map[string]string
	short      bool // odd packets go by the fork straight to the join
}

func (m *model) stamp(name string) Node[*packet] {
	m.names[name] = fmt.Sprint(name, "#", m.generation)
	return stamp(name, fmt.Sprint("#", m.generation))
}

func (m *model) trail(odd bool) string {
	names := append([]string{}, m.before...)
	names = append(names, "fork")
	if !odd {
		names = append(names, "even")
	} else if !m.short {
		names = append(names, "odd")
	}
	names = append(append(names, "join"), m.after...)
	for i, name := range names {
		names[i] = m.names[name]
	}
	return strings.Join(names, " ")
}

func (m *model) graph() Graph[*packet] {
	m.generation++
	m.names["fork"] = fmt.Sprint("fork#", m.generation)
	return Graph[*packet]{
		Nodes: []Node[*packet]{fork(fmt.Sprint("#", m.generation)), m.stamp("even"), m.stamp("odd"), m.stamp("join")},
		Arcs: []Arc{{To: "fork"}, {"fork", "even", "even"}, {"fork", "odd", "odd"}, {From: "even", To: "join"}, {From: "odd", To: "join"},
			{From: "join"}},
	}
}

// change is one to three edits that belong together.
func (m *model) change() []Edit[*packet] {
	m.generation++
	var edits []Edit[*packet]
	for range 1 + m.random.IntN(3) {
		edits = append(edits, m.edit()...)
	}
	return edits
}

func (m *model) edit() []Edit[*packet] {
	switch m.random.IntN(6) {
	case 0: // two that must change together
		m.names["fork"] = fmt.Sprint("fork#", m.generation)
		return []Edit[*packet]{Replace(fork(fmt.Sprint("#", m.generation))), Replace(m.stamp("join"))}
	case 1:
		return []Edit[*packet]{m.insert(&m.before, "fork", Arc{})}
	case 2:
		return []Edit[*packet]{m.insert(&m.after, "", Arc{From: "join"})}
	case 3:
		return m.delete(&m.before)
	case 4:
		return m.delete(&m.after)
	default:
		if m.short = !m.short; m.short {
			return []Edit[*packet]{Connect[*packet]("fork", "odd", "join"), Delete[*packet]("odd", "")}
		}
		return []Edit[*packet]{Insert(m.stamp("odd"), Arc{"fork", "odd", "join"}, "")}
	}
}

// insert puts a node before the first of a list; first is the arc by which packets come.
func (m *model) insert(list *[]string, end string, first Arc) Edit[*packet] {
	name := fmt.Sprint("x", m.generation, "-", m.random.Uint32())
	if first.To = end; len(*list) > 0 {
		first.To = (*list)[0]
	}
	*list = append([]string{name}, *list...)
	return Insert(m.stamp(name), first, "")
}

func (m *model) delete(list *[]string) []Edit[*packet] {
	if len(*list) < 3 {
		return nil
	}
	i := m.random.IntN(len(*list))
	name := (*list)[i]
	*list = append((*list)[:i:i], (*list)[i+1:]...)
	return []Edit[*packet]{Delete[*packet](name, "")}
}

// seen checks the packets of one lane.
type seen struct {
	t        *testing.T
	versions *sync.Map // trail to version
	next     int
	newest   [2]int
}

func (s *seen) deliver(p *packet) {
	if p.number != s.next {
		s.t.Errorf("packet %d came where %d was due", p.number, s.next)
	}
	s.next++
	odd := p.number % 2
	version, ok := s.versions.Load(fmt.Sprint(odd, " ", strings.Join(p.trail, " ")))
	if !ok {
		s.t.Errorf("packet %d saw mixed versions: %v", p.number, p.trail)
		return
	}
	if version.(int) < s.newest[odd] {
		s.t.Errorf("packet %d saw version %d behind one that saw %d", p.number, version, s.newest[odd])
	}
	s.newest[odd] = version.(int)
}

func TestAThousandChangesUnderLoadMixLoseDoubleAndReorderNothing(t *testing.T) {
	m := &model{random: rand.New(rand.NewPCG(7, 11)), names: map[string]string{}}
	f, err := New(m.graph(), 64)
	if err != nil {
		t.Fatal(err)
	}
	var versions sync.Map
	remember := func(version int) {
		// A change that changes nothing leaves the trail of the version before.
		versions.LoadOrStore("0 "+m.trail(false), version)
		versions.LoadOrStore("1 "+m.trail(true), version)
	}
	remember(0)
	stop := make(chan struct{})
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() { load(t, f, &versions, stop) })
	}
	for version := range changes {
		edits := m.change()
		remember(version + 1) // before the first packet can see it
		if _, err := f.Update(t.Context(), edits...); err != nil {
			t.Fatalf("change %d: %v", version, err)
		}
	}
	close(stop)
	senders.Wait()
}

// load sends packets until it is told to stop, and now and then goes over to a new lane.
func load(t *testing.T, f *Flow[*packet], versions *sync.Map, stop chan struct{}) {
	for {
		s := &seen{t: t, versions: versions}
		lane, err := f.Lane(s.deliver)
		if err != nil {
			t.Error(err)
			return
		}
		sent := 0
		for range 5000 {
			select {
			case <-stop:
				lane.Close()
				if s.next != sent {
					t.Errorf("%d packets were sent, and %d came", sent, s.next)
				}
				return
			default:
			}
			if err := lane.Send(t.Context(), &packet{number: sent}); err != nil {
				t.Error(err)
				return
			}
			sent++
		}
		lane.Close()
		if s.next != sent {
			t.Errorf("%d packets were sent, and %d came", sent, s.next)
		}
	}
}

func TestConcurrentChangesAreOrdered(t *testing.T) {
	f, err := New(Line(stamp("a", "0"), stamp("b", "0")), 64)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range 100 {
				generation := fmt.Sprint(worker, "-", i)
				if _, err := f.Update(t.Context(), Replace(stamp("a", generation)), Replace(stamp("b", generation))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	lane, err := f.Lane(func(p *packet) {
		if strings.TrimPrefix(p.trail[0], "a") != strings.TrimPrefix(p.trail[1], "b") {
			t.Errorf("packet %d saw %v", p.number, p.trail)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		if err := lane.Send(t.Context(), &packet{number: i}); err != nil {
			t.Fatal(err)
		}
	}
	group.Wait()
	lane.Close()
	if _, version := f.Graph(); version != 400 {
		t.Errorf("%d changes were made", version)
	}
}

// The cost of a packet on its way through seven operators.
func BenchmarkSevenOperators(b *testing.B) {
	var nodes []Node[*packet]
	for i := range 7 {
		nodes = append(nodes, Node[*packet]{Name: fmt.Sprint("n", i), New: func() (Operator[*packet], error) {
			return operator(func(*packet) int { return 0 }), nil
		}})
	}
	f, err := New(Line(nodes...), 64)
	if err != nil {
		b.Fatal(err)
	}
	lane, err := f.Lane(func(*packet) {})
	if err != nil {
		b.Fatal(err)
	}
	p := &packet{}
	for b.Loop() {
		if err := lane.Send(b.Context(), p); err != nil {
			b.Fatal(err)
		}
	}
	lane.Close()
}

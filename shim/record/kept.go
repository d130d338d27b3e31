package record

import (
	"sync"

	"go.yaml.in/yaml/v3"

	"drydock/shim/message"
	"drydock/shim/rules"
)

// Keeps says whether any rule has the shim keep a field.
func (r *Record) Keeps() bool {
	for _, p := range r.pairs {
		if p.up != nil && p.up.Keeps() || p.down != nil && p.down.Keeps() {
			return true
		}
	}
	return false
}

// KeepIn says who keeps fields; pair is as v1-v2. It must be called before calls are translated, and after Check, which keeps
// what it needs by itself.
func (r *Record) KeepIn(keeper func(pair string) rules.Keeper) {
	for i := range r.Pairs {
		r.keepPair(i, keeper(r.Pairs[i].Between[0]+"-"+r.Pairs[i].Between[1]))
	}
}

func (r *Record) keepPair(i int, k rules.Keeper) {
	for _, t := range []*rules.Translator{r.pairs[i].up, r.pairs[i].down} {
		if t != nil {
			t.KeepIn(k)
		}
	}
}

// keep begins an example with what it says is kept.
func (c *checker) keep(at string, kept map[string]map[string]yaml.Node) {
	m := &memory{kept: map[[2]string]*message.Value{}}
	for field, keys := range kept {
		for key, node := range keys {
			v, err := message.FromYAML(&node)
			if err != nil {
				c.add(at+".kept."+field, err.Error(), "write the value as in JSON")
			}
			m.kept[[2]string{field, key}] = v
		}
	}
	for i := range c.record.Pairs {
		c.record.keepPair(i, m)
	}
}

// memory keeps for as long as an example runs.
type memory struct {
	mu   sync.Mutex
	kept map[[2]string]*message.Value
}

// Keep implements rules.Keeper.
func (m *memory) Keep(field, key string, v *message.Value) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept[[2]string{field, key}] = v.Clone()
	return nil
}

// Kept implements rules.Keeper.
func (m *memory) Kept(field, key string) (*message.Value, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept[[2]string{field, key}].Clone(), nil
}

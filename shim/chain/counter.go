package chain

import (
	"cmp"
	"slices"
	"sync"
)

// Outcome of a call.
type Outcome uint8

// Passed and Translated count calls whose request reached the server's version. Disallowed and Untranslatable count
// refusals: of a request, of a message of a stream, or of an answer, whose request then is counted too.
const (
	Passed Outcome = iota
	Translated
	Disallowed
	Untranslatable
)

// Counter counts calls by their versions, and times hops. It is safe for concurrent use.
type Counter struct {
	mu     sync.Mutex
	counts map[[2]string]*[4]uint64
	hops   map[[2]string]*hop
}

// Count is what happened between one version of client and one of server.
type Count struct {
	Client         string `json:"client"`
	Server         string `json:"server"`
	Passed         uint64 `json:"passed"`
	Translated     uint64 `json:"translated"`
	Disallowed     uint64 `json:"disallowed"`
	Untranslatable uint64 `json:"untranslatable"`
}

func (c *Counter) add(client, server string, o Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[[2]string]*[4]uint64{}
	}
	key := [2]string{client, server}
	if c.counts[key] == nil {
		c.counts[key] = &[4]uint64{}
	}
	c.counts[key][o]++
}

// Counts are in the order of their versions' names.
func (c *Counter) Counts() []Count {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := make([]Count, 0, len(c.counts))
	for key, n := range c.counts {
		counts = append(counts, Count{key[0], key[1], n[Passed], n[Translated], n[Disallowed], n[Untranslatable]})
	}
	slices.SortFunc(counts, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Client, b.Client), cmp.Compare(a.Server, b.Server))
	})
	return counts
}

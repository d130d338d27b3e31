package plan

import "math"

// heap holds the hosts of a class that may be given pods, the emptiest first. A search skips whatever lies below a host that is
// too full, so that finding room among thousands of full hosts is cheap.
type heap struct {
	hosts             []int32
	maxCPU, maxMemory int64
}

// score is how empty a host is: the smaller of the shares of processor and memory that are free.
func (m *model) score(h int32) float64 {
	x := &m.hosts[h]
	return min(share(x.memory, x.maxMemory), share(x.cpu, x.maxCPU))
}

func (m *model) less(a, b int32) bool {
	x, y := m.score(a), m.score(b)
	return x > y || x == y && a < b
}

// enter makes a host a possible destination.
func (m *model) enter(h int32) {
	if m.hosts[h].away || m.hosts[h].position >= 0 {
		return
	}
	key := m.class(h)
	c := m.classes[key]
	if c == nil {
		c = &heap{}
		m.classes[key] = c
	}
	c.maxCPU, c.maxMemory = max(c.maxCPU, m.hosts[h].maxCPU), max(c.maxMemory, m.hosts[h].maxMemory)
	m.hosts[h].position = int32(len(c.hosts))
	c.hosts = append(c.hosts, h)
	m.up(c, len(c.hosts)-1)
}

// exclude makes a host no destination.
func (m *model) exclude(h int32) {
	i := int(m.hosts[h].position)
	if i < 0 {
		return
	}
	c := m.classes[m.class(h)]
	last := len(c.hosts) - 1
	m.swap(c, i, last)
	c.hosts = c.hosts[:last]
	m.hosts[h].position = -1
	if i < last {
		m.down(c, i)
		m.up(c, i)
	}
}

func (m *model) fix(h int32) {
	i := int(m.hosts[h].position)
	if i < 0 {
		return
	}
	c := m.classes[m.class(h)]
	m.down(c, i)
	m.up(c, i)
}

func (m *model) swap(c *heap, i, j int) {
	c.hosts[i], c.hosts[j] = c.hosts[j], c.hosts[i]
	m.hosts[c.hosts[i]].position, m.hosts[c.hosts[j]].position = int32(i), int32(j)
}

func (m *model) up(c *heap, i int) {
	for i > 0 && m.less(c.hosts[i], c.hosts[(i-1)/2]) {
		m.swap(c, i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (m *model) down(c *heap, i int) {
	for {
		best := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(c.hosts); child++ {
			if m.less(c.hosts[child], c.hosts[best]) {
				best = child
			}
		}
		if best == i {
			return
		}
		m.swap(c, i, best)
		i = best
	}
}

// search finds a host of the class that takes the pod, emptier ones first, or -1.
func (m *model) search(c *heap, p int32) int32 {
	q := &m.pods[p]
	// A host with less free than this, in share, has too little of one thing or the other.
	least := math.Min(share(q.memory, c.maxMemory), share(q.cpu, c.maxCPU))
	return m.below(c, 0, p, least)
}

func (m *model) below(c *heap, i int, p int32, least float64) int32 {
	if i >= len(c.hosts) || m.score(c.hosts[i]) < least {
		return -1
	}
	if m.pods[p].host != c.hosts[i] && m.fits(p, c.hosts[i]) {
		return c.hosts[i]
	}
	left, right := 2*i+1, 2*i+2
	if right < len(c.hosts) && m.less(c.hosts[right], c.hosts[left]) {
		left, right = right, left
	}
	if found := m.below(c, left, p, least); found >= 0 {
		return found
	}
	return m.below(c, right, p, least)
}

package migrate

import (
	"cmp"
	"sync"
	"time"

	"drydock/migrate/owner"
)

// place is what the agent knows of one pod beyond what lies on disk. It is lost with the agent, and nothing depends on it
// but speed and who is answered.
//
// Whoever acts on the pod holds busy. All else lies behind mu, since others ask while somebody acts; mu is held for a moment
// only, and never while a peer is asked, an event is delivered or anything is read or written.
type place struct {
	busy chan struct{}

	mu sync.Mutex
	// moving is the migration that runs with this host as its source.
	moving *move
	// coming is the migration that is received.
	coming *arrival
	// interrupted: the step that the journal names was begun by nobody who is still alive, or failed.
	interrupted bool
	// frames were held when the pod last came here.
	frames int64
	// attempts counts the restores that were begun here, also where the disk has no room to journal them.
	attempts int
	// gaveUp is why the migration that was last received here came to nothing, for the source's report.
	gaveUp string
	// peerHeard is when the other side last answered.
	peerHeard time.Time
	// asked is what came of the last question to the other side.
	asked question
}

// question is what the other side of a migration was asked, when, and what came of it.
type question struct {
	migration string
	at        time.Time
	peer      owner.Peer
	settled   bool
}

func newPlace() *place { return &place{busy: make(chan struct{}, 1), peerHeard: time.Now()} }

// with calls do with mu held.
func (p *place) with(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do()
}

// running is the feed of a migration, while that runs with this host as its source.
func (p *place) running(migration string) *feed {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.moving == nil || p.moving.spec.Id != migration {
		return nil
	}
	return p.moving.feed
}

func (p *place) setMoving(m *move) { p.with(func() { p.moving = m }) }

func (p *place) arrival() *arrival {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.coming
}

func (p *place) setArrival(a *arrival) { p.with(func() { p.coming = a }) }

// begin forgets what an earlier migration has left.
func (p *place) begin() {
	p.with(func() { p.interrupted, p.attempts, p.peerHeard, p.gaveUp = false, 0, time.Now(), "" })
}

// interrupt notes that what was begun is not gone on with.
func (p *place) interrupt() { p.with(func() { p.interrupted = true }) }

// giveUp notes that, and why.
func (p *place) giveUp(why string) { p.with(func() { p.interrupted, p.gaveUp = true, why }) }

// becauseOf is why the migration is given up, where nothing more telling is known.
func (p *place) becauseOf(reason string) { p.with(func() { p.gaveUp = cmp.Or(p.gaveUp, reason) }) }

func (p *place) whyGivenUp() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gaveUp
}

// settle notes that nothing is begun.
func (p *place) settle() { p.with(func() { p.interrupted = false }) }

func (p *place) isInterrupted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.interrupted
}

func (p *place) setAttempts(n int) { p.with(func() { p.attempts = n }) }

func (p *place) attempted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.attempts
}

func (p *place) setFrames(n int64) { p.with(func() { p.frames = n }) }

func (p *place) framesHeld() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frames
}

// heard notes that the other side has answered.
func (p *place) heard() { p.with(func() { p.peerHeard = time.Now() }) }

// silence is what an answer that did not come says of the other side.
func (p *place) silence() owner.Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.peerHeard) > patience {
		return owner.PeerSilent
	}
	return owner.PeerUnknown
}

func (p *place) setAsked(q question) { p.with(func() { p.asked = q }) }

// answered is what came of a question about a migration that was asked a moment ago, if one was.
func (p *place) answered(migration string) (question, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked, p.asked.migration == migration && time.Since(p.asked.at) < askAgain
}

func (p *place) tell(event string) {
	if coming := p.arrival(); coming != nil {
		coming.tell(event)
	}
}

func (p *place) settled() {
	if coming := p.arrival(); coming != nil {
		coming.setSettled()
	}
	p.tell(eventSettled)
}

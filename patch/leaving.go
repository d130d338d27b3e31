package patch

import "sync"

// leaving lets pods come while the host stays, and knows that none is on its way when the host goes.
type leaving struct {
	mu     sync.Mutex
	coming int
	going  bool
}

// Coming is called before a pod is made or received here; done once what is known of the host says that the pod is here. It is
// refused where the host is about to reboot.
func (h *Host) Coming() (done func(), err error) {
	l := &h.down
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.going {
		return nil, Refuse("choose another host, or wait until it is up again", "the host is about to reboot")
	}
	l.coming++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.coming--
	}), nil
}

// close lets no more come; false where one is on its way.
func (l *leaving) close() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.going = l.coming == 0
	return l.going
}

func (l *leaving) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.going = false
}

func (l *leaving) now() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.going
}

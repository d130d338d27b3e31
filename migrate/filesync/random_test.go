package filesync

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// monkey changes a tree at random. Changes that do not apply (a directory over a file) fail and are passed over, as are
// those whose subject another monkey took away.
type monkey struct {
	*rand.Rand
	root string
}

func (m *monkey) fresh() string {
	depth, path := m.IntN(3), m.root
	for range depth {
		path = filepath.Join(path, fmt.Sprintf("d%d", m.IntN(3)))
	}
	return filepath.Join(path, fmt.Sprintf("n%d", m.IntN(8)))
}

// pick returns an entry that exists, of any kind.
func (m *monkey) pick() string {
	var all []string
	filepath.WalkDir(m.root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && path != m.root {
			all = append(all, path)
		}
		return nil
	})
	if len(all) == 0 {
		return m.fresh()
	}
	return all[m.IntN(len(all))]
}

func (m *monkey) write(path string, size int64) {
	st, err := os.Lstat(path)
	if err == nil && !st.Mode().IsRegular() {
		return
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	f.WriteAt(random(1+m.IntN(3*blockSize)), m.Int64N(size))
}

func (m *monkey) act() {
	switch m.IntN(17) {
	case 0, 1:
		os.MkdirAll(filepath.Join(m.root, fmt.Sprintf("d%d/d%d", m.IntN(3), m.IntN(3))), 0o755)
	case 2, 3:
		m.write(m.fresh(), 2*blockSize)
	case 4:
		m.write(m.pick(), 40*blockSize)
	case 5:
		os.Truncate(m.pick(), m.Int64N(5*blockSize))
	case 6, 7:
		os.Rename(m.pick(), m.fresh())
	case 8:
		unix.Renameat2(unix.AT_FDCWD, m.pick(), unix.AT_FDCWD, m.pick(), unix.RENAME_EXCHANGE)
	case 9, 10:
		os.Link(m.pick(), m.fresh())
	case 11:
		os.Remove(m.pick())
	case 12:
		if m.IntN(4) == 0 {
			os.RemoveAll(m.pick())
		}
		os.Symlink(fmt.Sprint("text", m.IntN(9)), m.fresh())
	case 13:
		unix.Mkfifo(m.fresh(), 0o600)
	case 14:
		m.attributes(m.pick())
	case 15:
		at := time.Unix(m.Int64N(2e9), m.Int64N(1e9))
		os.Chtimes(m.pick(), at, at)
	case 16:
		m.punch(m.pick())
	}
}

func (m *monkey) attributes(path string) {
	st, err := os.Lstat(path)
	if err != nil || st.Mode()&os.ModeSymlink != 0 {
		return
	}
	unix.Chmod(path, 0o700|uint32(m.IntN(0o10000)))
	unix.Lsetxattr(path, fmt.Sprint("user.x", m.IntN(3)), []byte(fmt.Sprint(m.IntN(100))), 0)
	unix.Lremovexattr(path, fmt.Sprint("user.x", m.IntN(3)))
}

func (m *monkey) punch(path string) {
	if st, err := os.Lstat(path); err != nil || !st.Mode().IsRegular() {
		return
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, m.Int64N(5*blockSize), 1+m.Int64N(3*blockSize))
}

func TestRandomTreesAreEqualAfterTheFinalPass(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			m := &monkey{rand.New(rand.NewPCG(seed, 1)), p.from}
			for round := range 6 {
				for range 5 + m.IntN(60) {
					m.act()
				}
				if round == 3 && seed%2 == 0 {
					p.source.Reset()
				}
				p.pass(t, PassOptions{Final: round%2 == 1})
				p.equal(t)
			}
		})
	}
}

func TestATreeThatChangesDuringPassesIsEqualAfterTheFinalOne(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			p := newPair(t)
			stop := make(chan struct{})
			var running sync.WaitGroup
			running.Go(func() {
				m := &monkey{rand.New(rand.NewPCG(seed, 2)), p.from}
				for {
					select {
					case <-stop:
						return
					default:
						m.act()
					}
				}
			})
			for range 25 {
				p.pass(t, PassOptions{})
			}
			close(stop)
			running.Wait()
			p.pass(t, PassOptions{Final: true})
			p.equal(t)
		})
	}
}

// mutator changes the tree whenever the source writes to it.
type mutator struct {
	bytes.Buffer
	change func()
}

func (m *mutator) Write(p []byte) (int, error) {
	m.change()
	return m.Buffer.Write(p)
}

func TestFilesThatVanishOrChangeWhileTheyAreReadAreSettledLater(t *testing.T) {
	changes := map[string]func(d dir){
		"vanish":  func(d dir) { os.Remove(d.path("a")); os.Remove(d.path("z")) },
		"shrink":  func(d dir) { os.Truncate(d.path("a"), 100_000) },
		"grow":    func(d dir) { os.Truncate(d.path("a"), 100<<20) },
		"replace": func(d dir) { os.Remove(d.path("z")); os.Symlink("a", d.path("z")) },
		"swap":    func(d dir) { unix.Renameat2(-100, d.path("a"), -100, d.path("z"), unix.RENAME_EXCHANGE) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			d := dir{t, p.from}
			d.writeAt("a", 0, random(4<<20))
			d.writeAt("z", 0, random(1<<20))
			wire := &mutator{}
			writes := 0
			wire.change = func() {
				if writes++; writes == 3 {
					change(d)
				}
			}
			if _, err := p.source.Pass(context.Background(), wire, PassOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := p.target.Apply(context.Background(), wire); err != nil {
				t.Fatal(err)
			}
			p.pass(t, PassOptions{Final: true})
			p.equal(t)
		})
	}
}

func TestAFinalPassRefusesATreeThatStillChanges(t *testing.T) {
	p := newPair(t)
	d := dir{t, p.from}
	d.writeAt("a", 0, random(4<<20))
	wire := &mutator{}
	writes := 0
	wire.change = func() {
		if writes++; writes == 3 {
			d.writeAt("a", 0, []byte("still writing"))
		}
	}
	if _, err := p.source.Pass(context.Background(), wire, PassOptions{Final: true}); err == nil {
		t.Error("the pass succeeded")
	}
	p.pass(t, PassOptions{Final: true})
	p.equal(t)
}

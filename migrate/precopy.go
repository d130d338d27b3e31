package migrate

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/stack"
	"drydock/pods"

	"golang.org/x/sync/errgroup"
)

// In pre-copy the pod's memory goes over while it runs, in rounds: the first has all of it, each further one what was
// written since the one before. The dump in the freeze is the last round, and has all that is not memory. Each round is a
// directory of images beside the container's own, whose parent is the round before; they are sent as they are written.

const (
	// maxRounds and shrinking end the rounds of a pod that writes as fast as its memory can be sent.
	maxRounds = 8
	shrinking = 0.8
	// leastAllowance is how long sending the rest may take inside the freeze, where the downtime budget has no room for more.
	leastAllowance = 50 * time.Millisecond
	// mostCopied is how often the pod's memory may lie in images on either host, before the dump.
	mostCopied = 1.5
)

// round is what one round of pre-dumps has brought over.
type round struct {
	bytes int64
	took  time.Duration
}

// rounds decides, from those that were, whether another one is worth it.
type rounds struct {
	done   []round
	memory int64         // of the pod
	budget time.Duration // for the freeze
}

// stop is the reason for making no further one, or empty for going on. Two rounds are always made, as only the second shows how fast the
// pod writes.
func (r *rounds) stop() string {
	if len(r.done) < 2 {
		return ""
	}
	var total int64
	for _, d := range r.done {
		total += d.bytes
	}
	before, last := r.done[len(r.done)-2], r.done[len(r.done)-1]
	switch {
	case r.sending(last) <= r.allowance():
		return "the rest fits the downtime budget"
	case len(r.done) >= maxRounds:
		return "no more rounds"
	case len(r.done) > 2 && float64(last.bytes) > shrinking*float64(before.bytes):
		return "the rest shrinks no more"
	case float64(total+last.bytes) > mostCopied*float64(r.memory):
		return "more would be copied than there is memory"
	}
	return ""
}

// sending is how long what a round had would take at the pace of the first, the only one that has much to send.
func (r *rounds) sending(d round) time.Duration {
	first := r.done[0]
	if first.bytes == 0 {
		return 0
	}
	return time.Duration(float64(d.bytes) / float64(first.bytes) * float64(first.took))
}

func (r *rounds) allowance() time.Duration { return max(leastAllowance, r.budget-emptyFreeze) }

// dirtied is how many bytes a second the pod writes to, each page counted once a round.
func (r *rounds) dirtied() int64 {
	if len(r.done) < 2 {
		return 0
	}
	span := r.done[len(r.done)-2].took.Seconds()
	return int64(float64(r.done[len(r.done)-1].bytes) / max(span, 1e-3))
}

func (m *move) precopies() bool { return m.mode == drydockv1.MigrationMode_MIGRATION_MODE_PRECOPY }

// cannotPrecopy is why pre-copy is out of the question between two hosts, or empty.
func (m *move) cannotPrecopy(here, there *drydockv1.HostInfo) (reason, remedy string) {
	memory := m.needs.MemoryBytes
	switch {
	case !here.GetCriuFeatures()[stack.TracksWrites]:
		return "the kernel of " + m.spec.From + " does not track which pages a process writes", "use mode stop or postcopy"
	case here.GetMemoryAvailableBytes() < 2*memory:
		return fmt.Sprintf("%s: copies of the pod's memory take up to %s, %s are free", m.spec.From, size(2*memory), size(here.GetMemoryAvailableBytes())),
			"use mode stop"
	case there.GetMemoryAvailableBytes() < 3*memory:
		return fmt.Sprintf("%s: the pod and copies of its memory take up to %s, %s are free", m.spec.To, size(3*memory), size(there.GetMemoryAvailableBytes())),
			"move another pod away first, or use mode stop"
	}
	return "", ""
}

// precopy brings the memory over in rounds while the pod runs, then what has changed among its files meanwhile, and has both
// sides make ready for the rest.
func (m *move) precopy(ctx context.Context) error {
	images := filepath.Join(m.dir(m.spec.Id), "images")
	m.sending = m.beginSending(ctx, images)
	r := &rounds{memory: m.needs.MemoryBytes, budget: m.budget()}
	for r.stop() == "" {
		start, before := time.Now(), m.sending.Bytes()
		if err := m.preDump(ctx, images, len(r.done)+1); err != nil {
			return err
		}
		done := round{bytes: m.sending.Bytes() - before, took: time.Since(start)}
		r.done = append(r.done, done)
		m.bytes.Add(done.bytes)
	}
	m.rounds = len(r.done)
	last := r.done[m.rounds-1].bytes
	m.report.WrittenPerSecond = r.dirtied()
	m.report.ModeReason += fmt.Sprintf("; %d rounds, the last of %s, %s a second written: %s", m.rounds, size(last), size(r.dirtied()), r.stop())
	if err := m.bringFiles(ctx); err != nil {
		return err
	}
	return m.ready(ctx)
}

// endCopies sends no more of the memory; what was sent goes with the migration's directories.
func (m *move) endCopies(context.Context) error {
	m.sending.stop()
	return nil
}

// preDump makes one round, of all containers, and returns when it was sent.
func (m *move) preDump(ctx context.Context, images string, number int) error {
	group, dumping := errgroup.WithContext(ctx)
	for _, c := range m.rec.Spec.Containers {
		dump := pods.Dump{
			Images: filepath.Join(images, roundDir(c.Name, number)),
			Work:   filepath.Join(m.dir(m.spec.Id), "work", roundDir(c.Name, number)),
			Parent: parentOf(c.Name, number-1),
		}
		for _, dir := range []string{dump.Images, dump.Work} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
		}
		group.Go(func() error { return m.Pods.PreDump(dumping, m.spec.Pod, c.Name, dump) })
	}
	m.At(ctx, fmt.Sprintf("source-in-round-%d", number))
	if err := group.Wait(); err != nil {
		return err
	}
	m.At(ctx, fmt.Sprintf("source-after-round-%d", number))
	for _, c := range m.rec.Spec.Containers {
		if err := m.sending.flush(ctx, roundDir(c.Name, number)); err != nil {
			return err
		}
	}
	return nil
}

// roundDir is where the images of a container's round lie, beside its own; no container is called like that.
func roundDir(container string, number int) string {
	return container + roundMark + strconv.Itoa(number)
}

const roundMark = ".round-"

// parentOf is the round before, as seen from a directory of images; none before the first.
func parentOf(container string, number int) string {
	if number == 0 {
		return ""
	}
	return filepath.Join("..", roundDir(container, number))
}

// linkParents tells CRIU, in the images that arrived, which round each goes on from: links are not sent. It may be called again.
func linkParents(images string, spec *drydockv1.PodSpec, arrived map[string]int64) error {
	for _, c := range spec.Containers {
		last := 0
		for name := range arrived {
			number, found := strings.CutPrefix(filepath.Dir(name), c.Name+roundMark)
			if n, err := strconv.Atoi(number); found && err == nil {
				last = max(last, n)
			}
		}
		if last == 0 {
			continue
		}
		if err := linkParent(filepath.Join(images, c.Name), parentOf(c.Name, last)); err != nil {
			return err
		}
		for n := last; n > 1; n-- {
			if err := linkParent(filepath.Join(images, roundDir(c.Name, n)), parentOf(c.Name, n-1)); err != nil {
				return err
			}
		}
	}
	return nil
}

// parentLink is CRIU's name for the images that a directory of them goes on from.
const parentLink = "parent"

func linkParent(dir, parent string) error {
	link := filepath.Join(dir, parentLink)
	if have, err := os.Readlink(link); err == nil && have == parent {
		return nil
	}
	if err := os.Symlink(parent, link); err != nil {
		return fmt.Errorf("link the images of an earlier round: %w", err)
	}
	return nil
}

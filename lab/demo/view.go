package demo

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	drydockv1 "drydock/api/drydock/v1"

	"golang.org/x/term"
)

// view shows how the demo goes: on a terminal one line for each pod that is written again and again, below whatever else
// is said, and otherwise a line for everything that has happened.
type view struct {
	out   io.Writer
	start time.Time
	fd    int // of the terminal, or -1
	done  chan struct{}
	ended chan struct{}

	mu    sync.Mutex
	part  []byte // of a line that was not written whole
	lines []*line
	drawn int // lines of pods on the terminal
}

// line is what is known of a pod.
type line struct {
	*traveller
	using              user
	host, status, last string
}

const redraw = 200 * time.Millisecond

func newView(out io.Writer) *view {
	v := &view{out: out, start: time.Now(), fd: -1, done: make(chan struct{}), ended: make(chan struct{})}
	if file, is := out.(*os.File); is && term.IsTerminal(int(file.Fd())) {
		v.fd = int(file.Fd())
	}
	go v.run()
	return v
}

func (v *view) run() {
	defer close(v.ended)
	if v.fd < 0 {
		return
	}
	ticker := time.NewTicker(redraw)
	defer ticker.Stop()
	for {
		select {
		case <-v.done:
			return
		case <-ticker.C:
			v.print("")
		}
	}
}

// close leaves the last state on the terminal.
func (v *view) close() {
	close(v.done)
	<-v.ended
	if v.fd >= 0 {
		v.print("")
	}
}

// Write takes lines from those who report as they go.
func (v *view) Write(text []byte) (int, error) {
	v.mu.Lock()
	v.part = append(v.part, text...)
	whole := bytes.LastIndexByte(v.part, '\n') + 1
	said := string(v.part[:whole])
	v.part = v.part[whole:]
	v.mu.Unlock()
	if said != "" {
		v.print(said)
	}
	return len(text), nil
}

func (v *view) say(format string, args ...any) {
	v.print(fmt.Sprintf("%6.1fs  ", time.Since(v.start).Seconds()) + fmt.Sprintf(format, args...) + "\n")
}

// print puts whole lines above those of the pods.
func (v *view) print(said string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fd < 0 {
		_, _ = io.WriteString(v.out, said)
		return
	}
	width, _, err := term.GetSize(v.fd)
	if err != nil || width < 20 {
		width = 80
	}
	var b strings.Builder
	if v.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", v.drawn)
	}
	b.WriteString("\x1b[J" + said)
	for _, l := range v.lines {
		text := []rune(l.String())
		b.WriteString(string(text[:min(len(text), width-1)]) + "\n")
	}
	v.drawn = len(v.lines)
	_, _ = io.WriteString(v.out, b.String())
}

func (l *line) String() string {
	writes := ""
	if l.using != nil && l.using.acked() > 0 {
		writes = fmt.Sprintf("%7d writes", l.using.acked())
	}
	return fmt.Sprintf("%-9s %-7s %-26s %-14s  %s", l.app.name, l.host, l.status, writes, l.last)
}

func (v *view) add(t *traveller) {
	v.mu.Lock()
	v.lines = append(v.lines, &line{traveller: t, host: t.host, status: "runs"})
	v.mu.Unlock()
	v.note("pod %s runs on %s at %s", t.app.name, t.host, t.addr)
}

// note is for where nobody watches: what the pods' lines show otherwise.
func (v *view) note(format string, args ...any) {
	if v.fd < 0 {
		v.say(format, args...)
	}
}

// change alters a pod's line.
func (v *view) change(t *traveller, do func(*line)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, l := range v.lines {
		if l.traveller == t {
			do(l)
		}
	}
}

func (v *view) status(t *traveller, status string) {
	v.change(t, func(l *line) { l.status, l.using = status, t.user })
	v.note("%s: %s", t.app.name, status)
}

func (v *view) moving(t *traveller, to string) {
	v.change(t, func(l *line) { l.host, l.status = t.host+" > "+to, "moves" })
}

func (v *view) progress(t *traveller, p *drydockv1.MigrationProgress) {
	v.change(t, func(l *line) {
		l.status = fmt.Sprintf("%s %s", bar(p.StepIndex, p.StepCount), p.Step)
	})
}

func (v *view) moved(t *traveller, row Row) {
	short, found := fmt.Sprintf("blackout %.0f ms", row.Blackout), fmt.Sprintf("%s, freeze %.0f ms, blackout %.0f ms, %d of %d connections kept",
		row.Mode, row.Freeze, row.Blackout, row.ConnectionsAfter, row.ConnectionsBefore)
	if row.Errors > 0 {
		short, found = "FAILED", found+", FAILED"
	}
	v.change(t, func(l *line) { l.host, l.status, l.last = t.host, "in use", short })
	v.note("%s %s -> %s: %s", row.Pod, row.From, row.To, found)
}

// bar is how many of the steps are done.
func bar(index, count int32) string {
	if count <= 0 || index > count {
		return ""
	}
	return "[" + strings.Repeat("=", int(index)) + strings.Repeat(" ", int(count-index)) + "]"
}

func size(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }

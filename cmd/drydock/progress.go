package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	v1 "drydock/api/drydock/v1"
)

// progress shows how far one or several things are: a bar for each on a terminal, otherwise a line whenever something
// noteworthy changes.
type progress interface {
	// update shows p for the thing called name.
	update(name string, p *v1.MigrationProgress)
	// close leaves the cursor where output can follow.
	close()
}

func (a *app) newProgress() progress {
	if _, ok := terminal(a.stderr); ok {
		return newBars(a.stderr)
	}
	return &lines{w: a.stderr, last: map[string]lineState{}}
}

// lines is the progress for logs: one line for each step, for each message, and for each further quarter of the bytes.
type lines struct {
	w    io.Writer
	last map[string]lineState
}

type lineState struct {
	step, message string
	quarter       int64
}

func (l *lines) update(name string, p *v1.MigrationProgress) {
	now := lineState{step: p.Step, message: p.Message}
	if p.BytesTotal > 0 {
		now.quarter = min(4, 4*p.Bytes/p.BytesTotal)
	}
	if l.last[name] == now {
		return
	}
	l.last[name] = now
	fmt.Fprintf(l.w, "%s: %s\n", name, strings.Join(progressParts(p), ", "))
}

func (l *lines) close() {}

// progressParts says in words what is known.
func progressParts(p *v1.MigrationProgress) []string {
	parts := []string{stepWord(p)}
	switch {
	case p.BytesTotal > 0:
		parts = append(parts, fmt.Sprintf("%s of %s", orZero(p.Bytes), size(p.BytesTotal)))
	case p.Bytes > 0:
		parts = append(parts, size(p.Bytes))
	}
	if p.BytesPerSecond > 0 {
		parts = append(parts, size(p.BytesPerSecond)+"/s")
	}
	if p.Remaining.AsDuration() > 0 {
		parts = append(parts, took(p.Remaining)+" left")
	}
	if p.Message != "" {
		parts = append(parts, p.Message)
	}
	return parts
}

func stepWord(p *v1.MigrationProgress) string {
	if p.StepCount == 0 {
		return p.Step
	}
	return fmt.Sprintf("%s (%d/%d)", p.Step, p.StepIndex, p.StepCount)
}

func orZero(bytes int64) string {
	if bytes == 0 {
		return "0 B"
	}
	return size(bytes)
}

// bars is the progress on a terminal.
type bars struct {
	container *mpb.Progress
	byName    map[string]*bar
}

type bar struct {
	*mpb.Bar
	mu     sync.Mutex
	latest *v1.MigrationProgress
}

func newBars(w io.Writer) *bars {
	return &bars{
		container: mpb.New(mpb.WithOutput(w), mpb.WithAutoRefresh(), mpb.WithWidth(30), mpb.WithRefreshRate(100*time.Millisecond)),
		byName:    map[string]*bar{},
	}
}

func (b *bars) update(name string, p *v1.MigrationProgress) {
	one, ok := b.byName[name]
	if !ok {
		one = &bar{latest: p}
		one.Bar = b.container.AddBar(0,
			mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.Any(one.text, decor.WCSyncSpaceR)))
		b.byName[name] = one
	}
	one.mu.Lock()
	one.latest = p
	one.mu.Unlock()
	// Where the bytes are not known beforehand, the bar stands for the steps.
	current, total := p.Bytes, p.BytesTotal
	if total == 0 {
		current, total = int64(p.StepIndex), int64(p.StepCount)+1
	}
	one.SetTotal(total, false)
	one.SetCurrent(min(current, total))
}

func (b *bar) text(decor.Statistics) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(progressParts(b.latest), "  ")
}

func (b *bars) close() {
	for _, one := range b.byName {
		one.Abort(false) // keeps what it shows; a no-op on one that is complete
	}
	b.container.Wait()
}

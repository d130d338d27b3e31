// Command matrix moves programs between virtual machines with different kernels, in every direction, and writes down what came of
// it: build/matrix.json, and the table in docs/kernels.md. A cell is ok where the pod was, after its move, all that it had been,
// over the connection that was open before; refused where nothing was touched; else it has failed, and so has this command.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"drydock/lab"
	"drydock/lab/rig"
	"drydock/migrate/stack"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "matrix failed:\n%v\n", err)
		os.Exit(1)
	}
}

// settings are what the command line says.
type settings struct {
	lab, binary, dir, docs string
	suites, programs       []string
	keep                   bool
}

func parse() settings {
	var s settings
	flag.StringVar(&s.lab, "lab", "matrix", "name of the lab; one of that name is replaced")
	flag.StringVar(&s.binary, "binary", "build/drydock", "the drydock program, with its package beside it")
	flag.StringVar(&s.dir, "dir", "build", "directory for matrix.json")
	flag.StringVar(&s.docs, "docs", "docs/kernels.md", "page whose table is replaced; none if empty")
	flag.BoolVar(&s.keep, "add", false, "keep the cells of an earlier run that this one does not try")
	suites := flag.String("suites", "bookworm,trixie,trixie-backports", "Debian suites that the machines have their kernels from")
	programs := flag.String("programs", "", "programs to move, separated by commas; all if empty")
	flag.Parse()
	s.suites = strings.Split(*suites, ",")
	if *programs != "" {
		s.programs = strings.Split(*programs, ",")
	}
	return s
}

func run(ctx context.Context) (err error) {
	s := parse()
	chosen, err := choose(s.programs)
	if err != nil {
		return err
	}
	kernels := make([]string, len(s.suites))
	for i, suite := range s.suites {
		if suite != lab.BaseSuite {
			kernels[i] = suite
		}
	}
	r, err := rig.Up(ctx, lab.Options{
		Name: s.lab, Hosts: len(s.suites), Driver: lab.DriverVM, Kernels: kernels, Binary: s.binary, Progress: os.Stderr,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Down(context.WithoutCancel(ctx))) }()
	m := &matrix{rig: r}
	if err := m.findKernels(ctx); err != nil {
		return err
	}
	path := filepath.Join(s.dir, "matrix.json")
	if s.keep {
		if m.cells, err = readCells(path); err != nil {
			return err
		}
	}
	for _, p := range chosen {
		if err := m.tryProgram(ctx, p); err != nil {
			return err
		}
		if err := writeCells(path, m.cells); err != nil {
			return err
		}
	}
	if s.docs != "" {
		if err := writeTable(s.docs, m.cells); err != nil {
			return err
		}
	}
	return judge(m.cells)
}

// matrix is one run.
type matrix struct {
	rig   *rig.Rig
	hosts []host // the oldest kernel first
	cells []cell
	pods  int
}

// host is a machine with the series of its kernel.
type host struct{ name, series string }

func (m *matrix) findKernels(ctx context.Context) error {
	for _, name := range m.rig.Hosts() {
		out, err := m.rig.Exec(ctx, name, "uname", "-r").Output()
		if err != nil {
			return fmt.Errorf("kernel of %s: %w", name, err)
		}
		release := strings.TrimSpace(string(out))
		fmt.Printf("%s has kernel %s\n", name, release)
		m.hosts = append(m.hosts, host{name, stack.Series(release)})
	}
	slices.SortFunc(m.hosts, func(a, b host) int {
		if stack.Older(a.series, b.series) {
			return -1
		}
		return 1
	})
	return nil
}

// tryProgram moves a program from each host to each other one.
func (m *matrix) tryProgram(ctx context.Context, p program) error {
	for _, h := range m.hosts {
		if err := p.bring(ctx, m.rig, h.name); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	for _, from := range m.hosts {
		for _, to := range m.hosts {
			if from == to {
				continue
			}
			began := time.Now()
			c, err := m.try(ctx, p, from, to)
			if err != nil {
				return err
			}
			fmt.Printf("%s from %s to %s: %s in %s %s %v\n", c.Program, c.From, c.To, c.Result, time.Since(began).Round(time.Second), c.Reason, c.Translated)
			m.note(c)
		}
	}
	return nil
}

// note takes a cell in, in the place of an earlier one.
func (m *matrix) note(c cell) {
	m.cells = slices.DeleteFunc(m.cells, func(old cell) bool { return old.Program == c.Program && old.From == c.From && old.To == c.To })
	m.cells = append(m.cells, c)
}

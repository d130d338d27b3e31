package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/stack"
)

// What can come of a cell.
const (
	resultOK      = "ok"
	resultRefused = "refused"
	resultFailed  = "failed"
)

// cell is one program, moved from one kernel to another.
type cell struct {
	Program    string   `json:"program"`
	From       string   `json:"from"`
	To         string   `json:"to"`
	Result     string   `json:"result"`
	Reason     string   `json:"reason"`
	Translated []string `json:"translated"`
}

// try makes a pod of the program, moves it once and removes it. An error is one of the lab, not of the move.
func (m *matrix) try(ctx context.Context, p program, from, to host) (cell, error) {
	c := cell{Program: p.name, From: from.series, To: to.series, Translated: []string{}}
	m.pods++
	spec := p.spec(fmt.Sprintf("m%d", m.pods))
	made, err := m.rig.Run(ctx, spec, from.name)
	if err != nil {
		return c, err
	}
	defer func() {
		_, _ = m.rig.RemovePod(context.WithoutCancel(ctx), connect.NewRequest(&drydockv1.RemovePodRequest{Name: spec.Name, Force: true}))
	}()
	address, _, _ := strings.Cut(made.GetSpec().GetAddresses()[0], "/")
	s, err := p.use(ctx, m.rig, address)
	if err != nil {
		return c, fmt.Errorf("%s on %s: %w", p.name, from.name, err)
	}
	report, err := m.rig.Move(ctx, spec.Name, to.name, drydockv1.MigrationMode_MIGRATION_MODE_STOP, nil)
	c.judgeMove(report, err)
	if err := s.check(ctx); err != nil {
		c.Result, c.Reason = resultFailed, strings.TrimSpace(c.Reason+" "+err.Error())
	}
	return c, nil
}

func (c *cell) judgeMove(report *drydockv1.MigrationReport, err error) {
	c.Translated = append(c.Translated, report.GetTranslated()...)
	switch {
	case err == nil:
		c.Result = resultOK
	case report.GetOutcome() == drydockv1.MigrationOutcome_MIGRATION_OUTCOME_REFUSED:
		c.Result = resultRefused
		var reasons []string
		for _, r := range report.GetRefusals() {
			reasons = append(reasons, r.GetReason())
		}
		c.Reason = strings.Join(reasons, "; ")
	default:
		c.Result, c.Reason = resultFailed, err.Error()
	}
}

// mustBeOK says whether a move may not even be refused: to a newer kernel, and back where most need it.
func (c cell) mustBeOK() bool {
	return stack.Older(c.From, c.To) || c.From == "6.12" && c.To == "6.1" || c.From == "7.2" && c.To == "6.12"
}

// judge is an error where a cell is not what it has to be.
func judge(cells []cell) error {
	var errs []error
	for _, c := range cells {
		if c.Result == resultFailed || c.mustBeOK() && c.Result != resultOK {
			errs = append(errs, fmt.Errorf("%s from %s to %s: %s: %s", c.Program, c.From, c.To, c.Result, c.Reason))
		}
	}
	return errors.Join(errs...)
}

func readCells(path string) ([]cell, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var cells []cell
	if err == nil {
		err = json.Unmarshal(data, &cells)
	}
	if err != nil {
		return nil, fmt.Errorf("earlier cells: %w", err)
	}
	return cells, nil
}

func writeCells(path string, cells []cell) error {
	data, err := json.MarshalIndent(cells, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// Marks between which the page has the table.
const (
	tableBegins = "<!-- made by make matrix: begin -->\n"
	tableEnds   = "<!-- made by make matrix: end -->\n"
)

// writeTable puts the cells' table into the page.
func writeTable(path string, cells []cell) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(data), tableBegins)
	_, after, ended := strings.Cut(rest, tableEnds)
	if !found || !ended {
		return fmt.Errorf("%s has no place for the table: %q and %q", path, tableBegins, tableEnds)
	}
	return os.WriteFile(path, []byte(before+tableBegins+table(cells)+tableEnds+after), 0o644)
}

// table has a row for each program and a column for each direction.
func table(cells []cell) string {
	var programs, directions []string
	at := make(map[string]cell)
	for _, c := range cells {
		direction := c.From + " to " + c.To
		if !slices.Contains(programs, c.Program) {
			programs = append(programs, c.Program)
		}
		if !slices.Contains(directions, direction) {
			directions = append(directions, direction)
		}
		at[c.Program+direction] = c
	}
	var text strings.Builder
	text.WriteString("| program | " + strings.Join(directions, " | ") + " |\n|" + strings.Repeat(" --- |", len(directions)+1) + "\n")
	for _, p := range programs {
		text.WriteString("| " + p + " |")
		for _, d := range directions {
			c, tried := at[p+d]
			switch {
			case !tried:
				text.WriteString(" not tried |")
			case len(c.Translated) > 0:
				text.WriteString(" " + c.Result + " (" + strings.Join(c.Translated, ", ") + ") |")
			default:
				text.WriteString(" " + c.Result + " |")
			}
		}
		text.WriteString("\n")
	}
	return text.String()
}

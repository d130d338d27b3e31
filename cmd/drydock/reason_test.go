package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"drydock/internal/pki"
)

func TestEveryCommandWhoseCallIsRecordedCanSayWhy(t *testing.T) {
	var can, want []string
	var each func(*cobra.Command)
	each = func(c *cobra.Command) {
		if c.Flags().Lookup("reason") != nil {
			can = append(can, commandName(c))
		}
		for _, sub := range c.Commands() {
			each(sub)
		}
	}
	each(newRootCommand(&app{}))
	for _, rule := range pki.ControllerPolicy() {
		if rule.Verb != "" {
			want = append(want, rule.Verb)
		}
	}
	slices.Sort(can)
	slices.Sort(want)
	if got, want := strings.Join(can, ", "), strings.Join(slices.Compact(want), ", "); got != want {
		t.Errorf("commands with --reason: %s\nrecorded calls: %s", got, want)
	}
}

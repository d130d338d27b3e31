package main

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

func TestTheCommandsThatChangeSomethingCanSayWhy(t *testing.T) {
	var can []string
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
	slices.Sort(can)
	want := []string{
		"controller join", "controller rm", "host confirm-dead", "host drain", "host join", "host resume", "host rm", "image import", "image pull",
		"migrate", "patch", "pod exec", "pod rm", "pod run", "pod shim", "pod start", "pod stop", "rollout abort", "rollout approve", "rollout pause",
		"rollout resume", "service apply", "service flag", "service rm", "service upgrade", "shim trace", "store backup",
		"upgrade abort", "upgrade pause", "upgrade resume", "user add", "user rm",
	}
	if diff := cmp.Diff(want, can); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

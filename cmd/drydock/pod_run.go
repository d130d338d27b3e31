package main

import (
	"github.com/spf13/cobra"
)

func newPodRun(a *app) *cobra.Command { return &cobra.Command{Use: "run"} }

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"drydock/internal/config"
)

func TestEveryCommandInTheDocumentationParses(t *testing.T) {
	shown := map[string]bool{}
	for _, line := range documentedCommands(t) {
		root := newRootCommand(&app{})
		root.InitDefaultCompletionCmd()
		cmd, rest, err := root.Find(shellWords(line)[1:])
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if err := cmd.ParseFlags(rest); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		shown[cmd.CommandPath()] = true
	}
	var each func(*cobra.Command)
	each = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			each(sub)
		}
		if !c.HasSubCommands() && !c.Hidden && !shown[c.CommandPath()] {
			t.Errorf("the documentation does not show %q", c.CommandPath())
		}
	}
	each(newRootCommand(&app{}))
}

// documentedCommands are the lines of the documentation's examples that call drydock, without the comments behind them.
func documentedCommands(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no documentation: %v", err)
	}
	var lines []string
	for _, page := range append(pages, "../../README.md") {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range strings.Split(string(data), "```") {
			if i%2 == 0 {
				continue
			}
			for line := range strings.Lines(block) {
				line, _, _ = strings.Cut(strings.TrimSpace(line), " # ")
				if line = strings.TrimPrefix(line, "build/"); strings.HasPrefix(line, "drydock ") {
					lines = append(lines, line)
				}
			}
		}
	}
	return lines
}

// shellWords splits at spaces outside of double quotes.
func shellWords(line string) []string {
	var words []string
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

func TestEverySettingIsDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range settingKeys() {
		for _, text := range []string{"--" + key + "`", "`DRYDOCK_" + strings.ToUpper(key) + "`"} {
			if !strings.Contains(string(data), text) {
				t.Errorf("docs/cli.md lacks %s", text)
			}
		}
	}
}

func TestTheConfigurationForANewHostIsOneThatAgentsTake(t *testing.T) {
	newHome(t)
	file := t.TempDir() + "/agent.yaml"
	write(t, file, joinConfig("h4", "https://10.77.0.1:7440"))
	got, err := config.LoadAgent(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "h4" || len(got.Controllers) != 1 || got.Join.TokenFile != "/etc/drydock/join-token" {
		t.Errorf("%+v", got)
	}
}

func TestDurationsAreShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 999 * time.Microsecond: "999 µs", 412 * time.Millisecond: "412 ms", 1940 * time.Millisecond: "1.94 s",
		12700 * time.Millisecond: "12 s", 125 * time.Second: "2m05s", 190 * time.Minute: "3h10m", 98 * time.Hour: "4d02h",
	} {
		if got := duration(d); got != want {
			t.Errorf("%v: %q, not %q", d, got, want)
		}
	}
}

package dnf

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
)

// Library is dnf's own, in the Python that dnf runs in.
type Library struct {
	// Config, Root and Release take the place of the host's configuration file, root directory and release.
	Config, Root, Release string
}

//go:embed open.py
var open string

// Command runs a script with the library opened and what it is given, see open.py.
func (l Library) Command(ctx context.Context, script string, given map[string]any) (*exec.Cmd, error) {
	python, err := interpreter()
	if err != nil {
		return nil, err
	}
	all := map[string]any{"config": l.Config, "installroot": l.Root, "releasever": l.Release}
	maps.Copy(all, given)
	input, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, python, "-c", open+"\n"+script)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.Stdin = bytes.NewReader(input)
	return cmd, nil
}

// Ask runs a script, and reads what it writes into an answer.
func (l Library) Ask(ctx context.Context, script string, given map[string]any, answer any) error {
	cmd, err := l.Command(ctx, script, given)
	if err != nil {
		return err
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("ask dnf: %w: %s", err, lastLine(said.String()))
	}
	if err := json.Unmarshal(out.Bytes(), answer); err != nil {
		return fmt.Errorf("ask dnf: %w", err)
	}
	return nil
}

// interpreter is the Python that dnf runs in, as the first line of its program says.
func interpreter() (string, error) {
	path, err := exec.LookPath("dnf")
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	words := strings.Fields(strings.TrimPrefix(line, "#!"))
	if err != nil || len(words) == 0 || !strings.Contains(words[0], "python") {
		return "", fmt.Errorf("%s is no dnf 4: it is not written in Python", path)
	}
	return words[0], nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

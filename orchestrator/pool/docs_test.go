package pool

import (
	"os"
	"strings"
	"testing"
)

func TestTheDocumentationListsEveryKeyWithItsDefault(t *testing.T) {
	data, err := os.ReadFile("../../docs/pools.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "| `") {
			cells := strings.Split(strings.TrimSpace(line), " | ")
			rows[strings.Trim(cells[0], "| `")] = cells
		}
	}
	for _, key := range Keys() {
		cells, ok := rows[key.Path]
		if !ok {
			t.Errorf("docs/pools.md lacks `%s`", key.Path)
			continue
		}
		delete(rows, key.Path)
		if len(cells) != 4 || cells[2] == "" {
			t.Errorf("docs/pools.md does not say what `%s` means", key.Path)
		} else if key.Default != "" && cells[1] != "`"+key.Default+"`" {
			t.Errorf("docs/pools.md: the default of `%s` is %s, not %s", key.Path, key.Default, cells[1])
		}
	}
	for path := range rows {
		t.Errorf("docs/pools.md lists `%s`, which is no key", path)
	}
}

func TestThePoolsInTheDocumentationLoad(t *testing.T) {
	data, err := os.ReadFile("../../docs/pools.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(data), "```yaml\n")
	if len(parts) < 2 {
		t.Fatal("there is none")
	}
	for _, part := range parts[1:] {
		text, _, _ := strings.Cut(part, "```")
		if _, err := Parse("docs/pools.md", []byte(text)); err != nil {
			t.Error(err)
		}
	}
}

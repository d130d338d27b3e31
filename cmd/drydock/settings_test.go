package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestFlagsWinOverTheEnvironmentOverTheFileOverTheDefault(t *testing.T) {
	p := newPool(t)
	file := filepath.Join(p.dir, "drydock", "config.yaml")
	kind := func(r result) string {
		switch {
		case strings.HasPrefix(r.stdout, "["):
			return "json"
		case strings.HasPrefix(r.stdout, "- "):
			return "yaml"
		case strings.HasPrefix(r.stdout, "NAME"):
			return "table"
		}
		t.Fatalf("no list: %+v", r)
		return ""
	}
	step := func(want string, args ...string) {
		t.Helper()
		if got := kind(p.run(t, append([]string{"pod", "ls"}, args...)...)); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	step("table")
	write(t, file, "output: json\n")
	step("json")
	t.Setenv("DRYDOCK_OUTPUT", "yaml")
	step("yaml")
	step("table", "-o", "table")
}

func TestTheServerAndCredentialsCanComeFromEachPlace(t *testing.T) {
	p := newPool(t)
	write(t, filepath.Join(p.dir, "drydock", "config.yaml"), "server: unix:///from/file\n")
	wants(t, p.run(t, "pod", "ls"), statusFailed, "unix:///from/file")
	t.Setenv("DRYDOCK_SERVER", "unix:///from/environment")
	wants(t, p.run(t, "pod", "ls"), statusFailed, "unix:///from/environment")
	wants(t, p.run(t, "pod", "ls", "--server", "unix://"+p.socket), statusDone)
	t.Setenv("DRYDOCK_KEY", "/none.key")
	wants(t, p.run(t, "pod", "ls"), statusMisuse, "open /none.key")
}

func TestAnUnknownKeyInTheConfigurationIsAnError(t *testing.T) {
	p := newPool(t)
	file := filepath.Join(p.dir, "drydock", "config.yaml")
	write(t, file, "outptu: json\n")
	wants(t, p.run(t, "pod", "ls"), statusMisuse, "drydock: configuration "+file+`: unknown key "outptu"`, "the keys are context,")
	write(t, file, "timeout: soon\n")
	wants(t, p.run(t, "pod", "ls"), statusMisuse, `timeout "soon": must be a duration`)
	write(t, file, "output: [\n")
	wants(t, p.run(t, "pod", "ls"), statusMisuse, "drydock: configuration "+file)
}

func TestAnUnknownKeyInTheFileOfContextsIsAnError(t *testing.T) {
	p := newPool(t)
	write(t, filepath.Join(p.dir, "drydock", "contexts.yaml"), "contexts: []\ncurrent: x\n")
	wants(t, p.run(t, "pod", "ls"), statusMisuse, "contexts.yaml", "current")
}

func TestPodAndHostNamesAreCompleted(t *testing.T) {
	p := newPool(t)
	for line, want := range map[string]string{
		"pod inspect ":                "redis\trunning on h1",
		"migrate ":                    "web\tmoving on h1",
		"migrate redis --to ":         "h2\tcordoned",
		"migrate redis --mode ":       "precopy",
		"host drain ":                 "h3\tunreachable",
		"migration show ":             "m-1\tredis to h2",
		"pod ls --context ":           "test",
		"pod ls -o ":                  "yaml",
		"config check x.yaml --kind ": "agent",
	} {
		args := append([]string{"__complete"}, strings.Split(line, " ")...)
		if r := p.run(t, args...); !strings.Contains(r.stdout, want+"\n") {
			t.Errorf("%q offers\n%swithout %q", line, r.stdout, want)
		}
	}
	r := p.run(t, "__complete", "pod", "inspect", "redis", "")
	if !strings.HasPrefix(r.stdout, ":4") {
		t.Errorf("a second argument is offered: %s", r.stdout)
	}
}

func TestCompletionIsSilentWithoutAController(t *testing.T) {
	newHome(t)
	if r := runAt(t.Context(), nil, "__complete", "pod", "inspect", ""); r.status != statusDone || r.stdout != ":4\n" {
		t.Errorf("%+v", r)
	}
}

func TestScriptsForEachShellAreWritten(t *testing.T) {
	newHome(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if r := runAt(t.Context(), nil, "completion", shell); r.status != statusDone || len(r.stdout) < 1000 {
			t.Errorf("%s: %+v", shell, r)
		}
	}
}

func TestTheVersionNeedsNoControllerWhereOnlyTheClientIsAskedFor(t *testing.T) {
	newHome(t)
	if r := runAt(t.Context(), nil, "version", "--client"); r.status != statusDone || !strings.HasPrefix(r.stdout, "Client:") {
		t.Errorf("%+v", r)
	}
	p := newPool(t)
	if r := p.run(t, "version"); !strings.Contains(r.stdout, "Controller:   v1.2.3\n") {
		t.Errorf("%+v", r)
	}
}

package clictx

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testContext(name string) Context {
	return Context{Name: name, Server: "unix:///run/" + name + ".sock", CA: "/ca", Cert: "/crt", Key: "/key"}
}

func TestSetMakesTheContextCurrentAndRemoveFallsBackToAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drydock", "contexts.yaml")
	for _, name := range []string{"one", "two"} {
		if err := Set(path, testContext(name)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := &File{CurrentContext: "two", Contexts: []Context{testContext("one"), testContext("two")}}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Error(diff)
	}
	if err := Remove(path, "two"); err != nil {
		t.Fatal(err)
	}
	f, err = Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.Current(""); err != nil || got.Name != "one" {
		t.Errorf("current is %v, %v", got, err)
	}
}

func TestRemovingTheLastContextLeavesNoFileBehind(t *testing.T) {
	top := t.TempDir()
	path := filepath.Join(top, "drydock", "contexts.yaml")
	if err := Set(path, testContext("one")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Remove(path, "one"); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := os.ReadDir(top); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestConcurrentChangesLoseNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "contexts.yaml")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := Set(path, testContext(fmt.Sprint("c", i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Contexts) != 20 {
		t.Errorf("%d contexts, not 20", len(f.Contexts))
	}
}

func TestTheEnvironmentNamesTheContextOverTheFile(t *testing.T) {
	f := &File{CurrentContext: "one", Contexts: []Context{testContext("one"), testContext("two")}}
	t.Setenv(EnvContext, "two")
	if got, err := f.Current(""); err != nil || got.Name != "two" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := f.Current("three"); !errors.Is(err, ErrNoContext) {
		t.Errorf("got %v", err)
	}
}

func TestAnUnknownKeyIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "contexts.yaml")
	if err := os.WriteFile(path, []byte("current: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil {
		t.Error("no error")
	}
}

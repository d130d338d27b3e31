package pool

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func put(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	return file
}

// follow opens a directory and runs it until the test ends; the channel tells the files that changed.
func follow(t *testing.T, dir string) (*Dir, chan string) {
	t.Helper()
	changes := make(chan string, 100)
	d, err := Open(dir, func(file string) { changes <- filepath.Base(file) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return d, changes
}

func TestAChangedFileIsSwappedWholeAndTheLastGoodOneStays(t *testing.T) {
	dir := t.TempDir()
	file := put(t, dir, "web.yaml", "name: web\nhosts: {names: [h1, h2]}\n")
	put(t, dir, "notes.txt", "no pool")
	d, changes := follow(t, dir)
	if got := <-changes; got != "web.yaml" || d.Pools()["web"] == nil || len(d.Faults()) != 0 {
		t.Fatalf("at first: %v %v", d.Pools(), d.Faults())
	}
	first := d.Pools()["web"]

	put(t, dir, "web.yaml", "name: web\nhosts: {names: [h1, h2]}\nreboot: maybe\n")
	<-changes
	if d.Pools()["web"] != first {
		t.Error("a file with a fault replaced the last good pool")
	}
	if fault := d.Faults()[file]; fault == nil || !strings.Contains(fault.Error(), "web.yaml:3:9") {
		t.Errorf("the fault is not told: %v", fault)
	}

	put(t, dir, "web.yaml", "name: web\nhosts: {names: [h1, h2]}\nreboot: always\n")
	<-changes
	if got := d.Pools()["web"]; got.Reboot != RebootAlways || len(d.Faults()) != 0 || first.Reboot != RebootWhenRequired {
		t.Errorf("now %v, before %v, faults %v", got.Reboot, first.Reboot, d.Faults())
	}

	put(t, dir, "web.yaml", "name: front\nhosts: {names: [h1, h2]}\n")
	<-changes
	if d.Pools()["web"] != nil || d.Pools()["front"] == nil {
		t.Errorf("after another name: %v", d.Pools())
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	<-changes
	if len(d.Pools()) != 0 || len(d.Faults()) != 0 {
		t.Errorf("after its removal: %v %v", d.Pools(), d.Faults())
	}
}

func TestTwoFilesMayNotClaimTheSame(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.yaml", "name: web\nhosts: {names: [h1, h2]}\n")
	name := put(t, dir, "b.yaml", "name: web\nhosts: {names: [h3]}\n")
	host := put(t, dir, "c.yaml", "name: other\nhosts: {names: [h2]}\n")
	d, changes := follow(t, dir)
	for range 3 {
		<-changes
	}
	if faults := d.Faults(); len(faults) != 2 || !strings.Contains(faults[name].Error(), "already") || !strings.Contains(faults[host].Error(), "host h2") {
		t.Fatalf("faults: %v", d.Faults())
	}
	put(t, dir, "a.yaml", "name: web2\nhosts: {names: [h1]}\n")
	for len(d.Faults()) > 0 {
		<-changes
	}
	if len(d.Pools()) != 3 {
		t.Errorf("once the name is free: %v", d.Pools())
	}
}

func TestPoolsAreReadWhileFilesChange(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "web.yaml", "name: web\nhosts: {names: [h0, x]}\n")
	d, changes := follow(t, dir)
	<-changes
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if p := d.Pools()["web"]; p == nil || len(p.Hosts.Names) != 2 {
					t.Error("a reader saw half a pool")
					return
				}
			}
		})
	}
	for i := 1; i < 4; i++ {
		put(t, dir, "web.yaml", fmt.Sprintf("name: web\nhosts: {names: [h%d, x]}\n", i))
		<-changes
	}
	close(stop)
	readers.Wait()
	if got := d.Pools()["web"].Hosts.Names[0]; got != "h3" {
		t.Errorf("at last %s", got)
	}
}

func TestADirectoryThatIsNotThereIsAnError(t *testing.T) {
	if _, err := Open(t.TempDir()+"/none", nil); err == nil {
		t.Error("opened")
	}
}

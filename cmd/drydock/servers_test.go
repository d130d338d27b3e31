package main

import (
	"net"
	"path/filepath"
	"testing"
)

func TestOfSeveralControllersTheFirstThatAnswersIsAsked(t *testing.T) {
	p := newPool(t)
	dead := "unix://" + filepath.Join(p.dir, "dead.sock")
	// One that is paused takes connections, and says nothing.
	paused, err := net.Listen("unix", filepath.Join(p.dir, "paused.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer paused.Close()
	live := "unix://" + p.socket
	for _, servers := range []string{live + "," + dead, dead + "," + live, dead + ",unix://" + paused.Addr().String() + "," + live} {
		wants(t, p.run(t, "pod", "ls", "--server", servers), statusDone)
		if asked := p.controller.asked(); len(asked) != 1 {
			t.Errorf("%s: asked %v", servers, asked)
		}
	}
	wants(t, p.run(t, "pod", "ls", "--server", dead+","+dead), statusFailed, "no controller answers at "+dead+","+dead)
	wants(t, p.run(t, "pod", "ls", "--server", live+",ftp://x"), statusMisuse, `server "ftp://x"`)
}

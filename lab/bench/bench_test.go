package bench

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMedianIsTheMiddleOrTheMeanOfTheTwoThatAreThere(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 3, 100}, 3.5},
	} {
		if got := median(test.values); got != test.want {
			t.Errorf("median of %v is %v, want %v", test.values, got, test.want)
		}
	}
}

func TestACaseComparesTheBestModeWithPodmanAndTheStopWithTheFloor(t *testing.T) {
	rounds := []Round{
		{Contender: "drydock_stop", BlackoutMS: 300, FreezeMS: 240},
		{Contender: "drydock_postcopy", BlackoutMS: 200, FreezeMS: 150},
		{Contender: "drydock_postcopy", BlackoutMS: 1, FreezeMS: 1, Error: "aborted"},
		{Contender: "podman", BlackoutMS: 1000, FreezeMS: 900},
	}
	got := summarize(rounds, []time.Duration{160 * time.Millisecond})
	want := Case{
		DrydockStop:     &Figures{BlackoutMS: 300, FreezeMS: 240},
		DrydockPostcopy: &Figures{BlackoutMS: 200, FreezeMS: 150},
		Podman:          &Figures{BlackoutMS: 1000, FreezeMS: 900},
		CRIUFloorMS:     160, PodmanOverDrydock: 5, FreezeOverFloor: 1.5,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAContenderWithoutAMoveThatWorkedHasNoFigures(t *testing.T) {
	got := summarize([]Round{{Contender: "podman", Error: "no"}, {Contender: "runc", BlackoutMS: 7}}, nil)
	if diff := cmp.Diff(Case{Runc: &Figures{BlackoutMS: 7}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestCRIUsTimeIsThatOfTheLineThatSaysItIsDone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dump.log")
	text := "(00.000012) Version: 4.2.1\n(00.091947) net: Unlock network\n(00.092358) Dumping finished successfully\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := logged(path)
	if want := 92358 * time.Microsecond; err != nil || got != want {
		t.Errorf("got %v and %v, want %v", got, err, want)
	}
}

func TestALogOfACRIUThatFailedHasNoTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dump.log")
	if err := os.WriteFile(path, []byte("(00.000012) Error (criu/x.c:1): no\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := logged(path); err == nil {
		t.Errorf("got %v, want an error", got)
	}
}

func TestTheRateIsThatOfAllRequestsTogether(t *testing.T) {
	table := "\"test\",\"rps\",\"avg\"\n\"SET\",\"1000.00\",\"1\"\n\"GET\",\"4000.00\",\"1\"\n"
	got, err := rate(strings.NewReader(table), 2000)
	if want := 1600.0; err != nil || got != want {
		t.Errorf("got %v and %v, want %v", got, err, want)
	}
}

func TestATableThatLacksAKindOfRequestIsAnError(t *testing.T) {
	if got, err := rate(strings.NewReader("\"SET\",\"1000.00\"\n"), 2000); err == nil {
		t.Errorf("got %v, want an error", got)
	}
}

func TestACopyHasEveryFileWithItsContent(t *testing.T) {
	source, target := t.TempDir(), t.TempDir()
	big := bytes.Repeat([]byte("pages"), 1<<20)
	for name, content := range map[string][]byte{"images/pages-1.img": big, "images/sub/core.img": []byte("core")} {
		path := filepath.Join(source, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	received := make(chan error, 1)
	go func() { received <- receive(listener, target) }()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := send(conn, filepath.Join(source, "images")); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := <-received; err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(target, "images/pages-1.img")); err != nil || !bytes.Equal(got, big) {
		t.Errorf("the large file has %d bytes and error %v, want %d", len(got), err, len(big))
	}
	if got, err := os.ReadFile(filepath.Join(target, "images/sub/core.img")); err != nil || string(got) != "core" {
		t.Errorf("the small file holds %q and error %v", got, err)
	}
}

package lab

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheFirstSectorHoldsGRUBAndOneActivePartition(t *testing.T) {
	boot := make([]byte, sectorSize)
	for i := range boot {
		boot[i] = 0x90
	}
	sector := firstSector(boot)
	if len(sector) != sectorSize || sector[510] != 0x55 || sector[511] != 0xaa {
		t.Fatal("no boot sector")
	}
	if sector[bootCodeSize-1] != 0x90 || sector[bootCodeSize] != 0 {
		t.Error("the code ends at another place")
	}
	first, count := binary.LittleEndian.Uint32(sector[tableAt+8:]), binary.LittleEndian.Uint32(sector[tableAt+12:])
	if first != 2048 || (uint64(first)+uint64(count))*sectorSize != diskSize {
		t.Errorf("partition from %d, %d sectors long", first, count)
	}
	if sector[tableAt] != 0x80 || sector[tableAt+4] != linuxPartition {
		t.Error("the partition is not active, or not Linux's")
	}
}

func TestAScriptWritesFilesWhateverIsInThem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "it's", "a file")
	text := "a 'quoted' $HOME line\n\\n %s `id`\n"
	cmd := exec.Command("sh")
	cmd.Stdin = strings.NewReader(writeScript([]vmFile{{path, text}}))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestWhatSystemdSaysOfServicesIsRead(t *testing.T) {
	names := []string{"containerd", "drydock-agent"}
	for text, want := range map[string][]serviceState{
		"MainPID=301\nNRestarts=0\n\nMainPID=0\nNRestarts=4\n": {{Name: "containerd", PID: 301}, {Name: "drydock-agent", Restarts: 4}},
		"": {{Name: "containerd"}, {Name: "drydock-agent"}},
	} {
		if diff := cmp.Diff(want, parseServices(names, text)); diff != "" {
			t.Errorf("%q:\n%s", text, diff)
		}
	}
}

func TestAMachineIsSavedAndItsErrorsAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		answers map[string][]string
		want    string
	}{
		"saved": {map[string][]string{
			"query-migrate": {`{"return": {"status": "active"}}`, `{"return": {"status": "completed"}}`},
		}, ""},
		"told of other things meanwhile": {map[string][]string{
			"stop":          {`{"event": "STOP"}` + "\n" + `{"return": {}}`},
			"query-migrate": {`{"return": {"status": "completed"}}`},
		}, ""},
		"failed": {map[string][]string{
			"query-migrate": {`{"return": {"status": "failed", "error-desc": "disk full"}}`},
		}, "disk full"},
		"refused": {map[string][]string{"migrate": {`{"error": {"class": "GenericError", "desc": "not now"}}`}}, "migrate: not now"},
	} {
		t.Run(name, func(t *testing.T) {
			mon, err := openMonitor(t.Context(), fakeQEMU(t, c.answers))
			if err != nil {
				t.Fatal(err)
			}
			defer mon.close()
			err = mon.save(t.Context(), "/nowhere")
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestAMachineIsResetWhenQEMUTellsSo(t *testing.T) {
	reset := `{"event": "RESET", "data": {"guest": false}}`
	for name, c := range map[string]struct {
		answers []string
		want    string
	}{
		"told afterwards": {[]string{`{"return": {}}` + "\n" + reset}, ""},
		"told before":     {[]string{reset + "\n" + `{"return": {}}`}, ""},
		"refused":         {[]string{`{"error": {"desc": "not now"}}`}, "system_reset: not now"},
	} {
		t.Run(name, func(t *testing.T) {
			mon, err := openMonitor(t.Context(), fakeQEMU(t, map[string][]string{"system_reset": c.answers}))
			if err != nil {
				t.Fatal(err)
			}
			defer mon.close()
			err = mon.reset()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestAMachineWhoseQEMUHasEndedIsOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qmp")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Reset(t.Context(), path); err != nil {
		t.Error(err)
	}
}

// fakeQEMU answers commands with what is given for them, in order, and all others with success.
func fakeQEMU(t *testing.T, answers map[string][]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qmp")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintln(conn, `{"QMP": {}}`)
		for in := bufio.NewScanner(conn); in.Scan(); {
			var request struct{ Execute string }
			if json.Unmarshal(in.Bytes(), &request) != nil {
				return
			}
			answer := `{"return": {}}`
			if rest := answers[request.Execute]; len(rest) > 0 {
				answer, answers[request.Execute] = rest[0], rest[1:]
			}
			fmt.Fprintln(conn, answer)
		}
	}()
	return path
}

func TestTheNewestPackageBesideTheProgramIsTaken(t *testing.T) {
	dir := t.TempDir()
	o := Options{Binary: filepath.Join(dir, "drydock")}
	if _, err := o.FindPackage(); err == nil || !strings.Contains(err.Error(), "make deb") {
		t.Errorf("no package, and no word of how to get one: %v", err)
	}
	for i, name := range []string{"drydock_2_amd64.deb", "drydock_10_amd64.deb", "drydock_3_arm64.deb"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Duration(i) * time.Minute)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	got, err := o.FindPackage()
	if err != nil || filepath.Base(got) != "drydock_10_amd64.deb" {
		t.Errorf("%s, %v", got, err)
	}
}

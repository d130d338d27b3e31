package rollout

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/internal/config"
	"drydock/orchestrator/pool"
)

// ipmitool puts a program in ipmitool's place that ends the order to switch off with a status, and says that the power is off when it
// is asked for the given time. What it was called with is returned.
func ipmitool(t *testing.T, status, looks int) (called func() string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	script := fmt.Sprintf("#!/bin/sh\necho \"$@\" >> %[1]s\ncase \"$*\" in\n*off) exit %[2]d;;\nesac\n"+
		"if [ $(grep -c status %[1]s) -ge %[3]d ]; then echo Chassis Power is off; else echo Chassis Power is on; fi\n", log, status, looks)
	if err := os.WriteFile(filepath.Join(dir, "ipmitool"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() string {
		data, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
}

func TestAHostIsFencedByItsManagementControllerOnlyOncePowerIsOff(t *testing.T) {
	for name, test := range map[string]struct {
		status, looks int
		want          string
	}{
		"it goes off after a while": {0, 3, ""},
		"it stays on":               {0, 1 << 20, "does not say that it is off"},
		"it is not heard":           {1, 1, "exit status 1"},
	} {
		t.Run(name, func(t *testing.T) {
			called := ipmitool(t, test.status, test.looks)
			clock := time.Now()
			now := func() time.Time { clock = clock.Add(10 * time.Second); return clock } // each look takes its time
			x := &execution{
				Rollouts: New(Config{Now: now, Timings: config.Timings{ReconcileInterval: time.Millisecond}}),
				pool: &pool.Pool{Name: "web", Fence: &pool.Fence{
					Timeout: time.Minute, IPMI: &pool.IPMI{Address: "{host}.ipmi.example.org", User: "drydock", PasswordFile: "/etc/drydock/ipmi", Interface: "lanplus"},
				}},
			}
			_, err := x.fence(t.Context(), "h1")
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
			const want = "-I lanplus -H h1.ipmi.example.org -U drydock -f /etc/drydock/ipmi chassis power off\n"
			if got := called(); !strings.HasPrefix(got, want) || strings.Count(got, "power off") != 1 {
				t.Errorf("called with %q", got)
			}
		})
	}
}

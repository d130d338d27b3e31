package main

import (
	"os/exec"
	"testing"
	"time"
)

var built = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

func TestVersionsOfTheGoToolBecomeDebians(t *testing.T) {
	for _, c := range []struct{ version, want string }{
		{"v1.2.3", "1.2.3"},
		{"v1.2.3+dirty", "1.2.3+dirty"},
		{"v1.2.3-rc.1", "1.2.3~rc.1"},
		{"v0.0.0-20260102150405-0123456789ab", "0.0.0~20260102150405.0123456789ab"},
		{"v1.2.4-0.20260102150405-0123456789ab+dirty", "1.2.4~20260102150405.0123456789ab+dirty"},
		{"(devel)", "0~20260102150405"},
		{"", "0~20260102150405"},
	} {
		if got := debianVersion(c.version, built); got != c.want {
			t.Errorf("%s: %s, want %s", c.version, got, c.want)
		}
	}
}

func TestDebianSortsVersionsAsTheyWereMade(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Fatal("this test needs dpkg, as the making of packages' users do: ", err)
	}
	order := []string{
		"(devel)", "v0.0.0-20260102150405-0123456789ab", "v0.0.0-20260102150405-0123456789ab+dirty", "v0.0.0-20260102150406-0123456789ab",
		"v1.2.3-rc.1", "v1.2.3", "v1.2.4-0.20260102150405-0123456789ab", "v1.2.4",
	}
	for i, older := range order[:len(order)-1] {
		a, b := debianVersion(older, built), debianVersion(order[i+1], built)
		if err := exec.Command("dpkg", "--compare-versions", a, "lt", b).Run(); err != nil {
			t.Errorf("%s is not older than %s for dpkg: %v", a, b, err)
		}
	}
}

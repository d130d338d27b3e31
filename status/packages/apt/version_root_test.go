//go:build root

package apt

import (
	"os/exec"
	"testing"
)

func TestVersionsComeInTheOrderThatDpkgHasThemIn(t *testing.T) {
	versions := []string{
		"6.12.94-1", "6.12.117-1", "6.12.94+deb13-1", "2.36-9", "2.36-9+deb12u1", "2.36-9+deb12u14", "1:9.2p1-2+deb12u7", "9.2p1-2", "3.0.17-1~deb12u2",
		"3.0.17-1", "3.0.18~rc1-1", "252.39-1~deb12u1", "252.38-1~deb12u1", "2:20240905~deb13u1", "0:1.0", "1.0", "1.0-0", "1.0-1", "1.0a", "1.0.1",
		"1.0~", "1.0~~", "1.0+b1", "1.0-1+b1", "1.0-1.1", "001.0", "1.a", "1.+", "7.88.1-10+deb12u14", "20240203", "2024b-0+deb12u1", "1.2.3-4-5", "0",
	}
	for _, a := range versions {
		for _, b := range versions {
			got := Compare(a, b)
			for op, holds := range map[string]bool{"lt": got < 0, "eq": got == 0, "gt": got > 0} {
				if dpkg := exec.Command("dpkg", "--compare-versions", a, op, b).Run() == nil; dpkg != holds {
					t.Errorf("%s %s %s: dpkg says %v", a, op, b, dpkg)
				}
			}
		}
	}
}

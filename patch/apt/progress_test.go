package apt

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatAptAndDpkgReportIsUnderstood(t *testing.T) {
	type told struct {
		Percent  int32
		Activity string
	}
	for line, want := range map[string]struct {
		told   []told
		failed []failedPackage
	}{
		"pmstatus:tool:40.1234:Unpacking tool (amd64)":            {told: []told{{40, "Unpacking tool (amd64)"}}},
		"pmstatus:dpkg-exec:0.0000:Running dpkg":                  {told: []told{{0, "Running dpkg"}}},
		"dlstatus:2:49.4030:Retrieving file 2 of 2":               {told: []told{{49, "Retrieving file 2 of 2"}}},
		"pmconffile:/etc/tool.conf:66.6667:'/a' '/b' 1 1 ":        {},
		"pmerror:tool:33.3:installed tool package: exit status 7": {failed: []failedPackage{{"tool", "installed tool package: exit status 7"}}},
		"pmerror:/var/cache/tool_1%3a2.0_amd64.deb:33.3:corrupt":  {failed: []failedPackage{{"tool", "corrupt"}}},
		"status: tool:amd64 : error : subprocess was killed":      {failed: []failedPackage{{"tool", "subprocess was killed"}}},
		"status: tool: half-configured":                           {},
		"processing: configure: tool":                             {},
		"pmstatus:tool":                                           {},
		"":                                                        {},
	} {
		var got []told
		r := &report{}
		for range 2 {
			got = nil
			r.take(line, func(percent int32, activity string) { got = append(got, told{percent, activity}) })
		}
		if diff := cmp.Diff(want.told, got); diff != "" {
			t.Errorf("%q: %s", line, diff)
		}
		if diff := cmp.Diff(want.failed, r.failed, cmp.AllowUnexported(failedPackage{})); diff != "" {
			t.Errorf("%q: %s", line, diff)
		}
	}
	r := &report{installs: true}
	r.take("dlstatus:2:49.4030:Retrieving file 2 of 2", func(int32, string) { t.Error("what lies here already was told as fetched") })
}

package dnf

import (
	"testing"

	drydockv1 "drydock/api/drydock/v1"
)

func TestOnlyAPackageThatIsThereOnceAndToItsEndIsWhole(t *testing.T) {
	at := func(evr string) have { return have{pin: pin{Name: "tool", Arch: "noarch", EVR: evr}} }
	several := func(evr string) have { h := at(evr); h.Several = true; return h }
	for name, test := range map[string]struct {
		all   []have
		open  []unfinished
		whole bool
		twice int
	}{
		"there":                                 {[]have{at("2.0-1")}, nil, true, 0},
		"not there":                             {[]have{{pin: pin{Name: "other", Arch: "noarch", EVR: "2.0-1"}}}, nil, false, 0},
		"of another architecture":               {[]have{{pin: pin{Name: "tool", Arch: "x86_64", EVR: "2.0-1"}}}, nil, false, 0},
		"of another epoch":                      {[]have{at("1:2.0-1")}, nil, false, 0},
		"older":                                 {[]have{at("1.0-1")}, nil, false, 0},
		"beside an older one":                   {[]have{at("1.0-1"), at("2.0-1")}, nil, false, 1},
		"there twice":                           {[]have{at("2.0-1"), at("2.0-1")}, nil, false, 1},
		"one of several that may be there":      {[]have{several("1.0-1"), several("2.0-1")}, nil, true, 0},
		"with a script that failed":             {[]have{at("2.0-1")}, []unfinished{{pin: at("2.0-1").pin}}, false, 0},
		"with another whose script has failed":  {[]have{at("2.0-1")}, []unfinished{{pin: pin{Name: "other", Arch: "noarch", EVR: "2.0-1"}}}, true, 0},
		"with a version before it still listed": {[]have{at("2.0-1")}, []unfinished{{pin: at("1.0-1").pin}}, true, 0},
	} {
		s := &state{all: test.all, open: test.open}
		p := &drydockv1.PinnedPackage{Name: "tool", Arch: "noarch", To: "2.0-1"}
		if got := s.whole(p); got != test.whole {
			t.Errorf("%s: whole: %v", name, got)
		}
		if got := s.duplicates(); len(got) != test.twice {
			t.Errorf("%s: twice: %v", name, got)
		}
	}
}

package record

import (
	"fmt"
	"strings"
)

// kinds of schedules, and what each needs beside at-once and soak.
var kinds = []struct{ name, needs string }{
	{"rolling", ""}, {"flag", "flag"}, {"gradual", "percent"}, {"servers-first", ""}, {"clients-first", ""}, {"one-per-group", "label"},
}

func (v *validator) schedule(path string, s Schedule) {
	var names []string
	known := false
	for _, k := range kinds {
		names = append(names, k.name)
		if k.name != s.Kind {
			continue
		}
		known = true
		for key, given := range map[string]bool{"flag": s.Flag != "", "percent": s.Percent != 0, "label": s.Label != ""} {
			if given && key != k.needs {
				v.add(path+"."+key, "a "+s.Kind+" schedule has no "+key, "remove it")
			}
			if !given && key == k.needs {
				v.add(path, "a "+s.Kind+" schedule needs "+key, "write "+key+":")
			}
		}
	}
	if !known {
		v.add(path+".kind", fmt.Sprintf("%q is not known", s.Kind), "write one of: "+strings.Join(names, ", "))
	}
	if s.Percent < 0 || s.Percent > 100 {
		v.add(path+".percent", fmt.Sprintf("%d is not between 1 and 100", s.Percent), "write the part of the pods for each step")
	}
	if s.AtOnce < 0 {
		v.add(path+".at-once", fmt.Sprintf("%d is less than 1", s.AtOnce), "write how many pods may be upgraded at the same moment, or leave it out for 1")
	}
	if s.Soak < 0 {
		v.add(path+".soak", "is less than 0", "write how long to wait after each pod, as 1m")
	}
}

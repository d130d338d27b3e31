package apt

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"drydock/patch"
	"drydock/patch/watch"
)

// report is what apt or dpkg reports of itself for programs to read, in lines: apt's, of which each begins with dlstatus, pmstatus,
// pmerror or pmconffile (see progress-reporting.md in libapt-pkg-doc), and dpkg's, "status: package : error : what" (see --status-fd in dpkg(1)).
type report struct {
	// installs: what is fetched lies here, so that it counts for nothing.
	installs bool
	// failed are the packages whose scripts or files made dpkg stop, in order, with its words.
	failed []failedPackage
}

type failedPackage struct{ name, words string }

// watched runs a command with its report as file 3 and its output appended to a log. The report is nil where it did not run.
func (a *Apt) watched(cmd *exec.Cmd, dir, log string, installs bool, tell patch.Tell) (*report, error) {
	if err := watch.Head(log, cmd.Args...); err != nil {
		return nil, err
	}
	r := &report{installs: installs}
	said, ran, err := watch.Run(cmd, dir, log, func(line string) { r.take(line, tell) })
	if !ran {
		return nil, err
	}
	if err != nil {
		err = &failure{command: filepath.Base(cmd.Path), err: err, said: said}
	}
	return r, err
}

func (r *report) take(line string, tell patch.Tell) {
	if rest, found := strings.CutPrefix(line, "status: "); found {
		if part := strings.SplitN(rest, " : ", 3); len(part) == 3 && part[1] == "error" {
			r.fail(part[0], part[2])
		}
		return
	}
	part := strings.SplitN(line, ":", 4)
	if len(part) < 4 {
		return
	}
	percent, err := strconv.ParseFloat(part[2], 64)
	switch {
	case err != nil:
	case part[0] == "pmerror":
		r.fail(part[1], part[3])
	case part[0] == "pmstatus" || part[0] == "dlstatus" && !r.installs:
		tell(int32(percent), strings.TrimSpace(part[3]))
	}
}

func (r *report) fail(name, words string) {
	name, _, _ = strings.Cut(filepath.Base(strings.TrimSpace(name)), "_")
	name, _, _ = strings.Cut(name, ":")
	for _, f := range r.failed {
		if f.name == name {
			return
		}
	}
	r.failed = append(r.failed, failedPackage{name: name, words: strings.TrimSpace(words)})
}

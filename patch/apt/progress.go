package apt

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"drydock/patch"
)

// report is what apt or dpkg reports of itself for programs to read, in a file: a pipe would end them with whoever reads it. Its
// lines: apt's, of which each begins with dlstatus, pmstatus, pmerror or pmconffile (see progress-reporting.md in libapt-pkg-doc),
// and dpkg's, "status: package : error : what" (see --status-fd in dpkg(1)).
type report struct {
	path string
	read int64
	// installs: what is fetched lies here, so that it counts for nothing.
	installs bool
	// failed are the packages whose scripts or files made dpkg stop, in order, with its words.
	failed []failedPackage
}

type failedPackage struct{ name, words string }

const reportEvery = 100 * time.Millisecond

// watched runs a command with its report as file 3 and its output appended to a log.
func (a *Apt) watched(cmd *exec.Cmd, dir, log string, installs bool, tell patch.Tell) (*report, error) {
	file, err := os.CreateTemp(dir, "report-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	out, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	fmt.Fprintf(out, "%s %s\n", time.Now().UTC().Format(time.RFC3339), strings.Join(cmd.Args, " "))
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, []*os.File{file}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r := &report{path: file.Name(), installs: installs}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			r.follow(tell)
			if err != nil {
				err = &failure{command: filepath.Base(cmd.Path), err: err, said: tailOf(log, cmd)}
			}
			return r, err
		case <-time.After(reportEvery):
			r.follow(tell)
		}
	}
}

// tailOf is what a command wrote to its log.
func tailOf(log string, cmd *exec.Cmd) string {
	data, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	head := []byte(strings.Join(cmd.Args, " ") + "\n")
	if at := bytes.LastIndex(data, head); at >= 0 {
		data = data[at+len(head):]
	}
	return string(data)
}

// follow reads what was reported since.
func (r *report) follow(tell patch.Tell) {
	data, err := os.ReadFile(r.path)
	if err != nil || int64(len(data)) < r.read {
		return
	}
	end := bytes.LastIndexByte(data, '\n') + 1
	fresh := string(data[min(r.read, int64(end)):end])
	r.read = max(r.read, int64(end))
	for line := range strings.Lines(fresh) {
		r.take(strings.TrimSpace(line), tell)
	}
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

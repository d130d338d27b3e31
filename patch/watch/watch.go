// Package watch runs a package manager, and follows what it reports of itself in a file: a pipe would end it with whoever reads it.
package watch

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

const every = 100 * time.Millisecond

// Run runs a command. What it writes is appended to a log, and what it wrote is returned; each line that it reports in its file 3
// is given to take, before Run returns. The report lies in a directory meanwhile. ran is false where the command could not be started.
func Run(cmd *exec.Cmd, dir, log string, take func(line string)) (said string, ran bool, err error) {
	file, err := os.CreateTemp(dir, "report-*")
	if err != nil {
		return "", false, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	out, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return "", false, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, []*os.File{file}
	start, err := out.Stat()
	if err != nil {
		return "", false, err
	}
	if err := cmd.Start(); err != nil {
		return "", false, err
	}
	r := &report{path: file.Name(), take: take}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			r.follow()
			return after(log, start.Size()), true, err
		case <-time.After(every):
			r.follow()
		}
	}
}

// Head writes a command to a log, and when it is run.
func Head(log string, words ...string) error {
	out, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = fmt.Fprintf(out, "%s %s\n", time.Now().UTC().Format(time.RFC3339), strings.Join(words, " "))
	return err
}

// after is what a log holds behind an offset.
func after(log string, from int64) string {
	data, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	return string(data[min(from, int64(len(data))):])
}

// report is a file that grows by lines.
type report struct {
	path string
	read int64
	take func(line string)
}

// follow reads what was reported since.
func (r *report) follow() {
	data, err := os.ReadFile(r.path)
	if err != nil || int64(len(data)) < r.read {
		return
	}
	end := bytes.LastIndexByte(data, '\n') + 1
	fresh := string(data[min(r.read, int64(end)):end])
	r.read = max(r.read, int64(end))
	for line := range strings.Lines(fresh) {
		r.take(strings.TrimSpace(line))
	}
}

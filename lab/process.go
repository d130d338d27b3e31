package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process names one process of this machine beyond doubt: a PID alone is soon somebody else's.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since the machine's boot
	Boot  string `json:"boot"`  // the machine's boot
}

// identify records the running process pid.
func identify(pid int) (process, error) {
	st, err := readStat(pid)
	if err != nil {
		return process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	boot, err := machineBoot()
	return process{PID: pid, Start: st.start, Boot: boot}, err
}

// alive tells whether the recorded process still is; a zombie is not.
func (p process) alive() bool {
	if p.PID <= 0 {
		return false
	}
	boot, err := machineBoot()
	if err != nil || boot != p.Boot {
		return false
	}
	st, err := readStat(p.PID)
	return err == nil && st.start == p.Start && st.state != 'Z' && st.state != 'X'
}

type procStat struct {
	state byte
	start uint64
}

func readStat(pid int) (procStat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	// The name in parentheses may hold anything; what counts follows the last one. The first one here is number 3 in proc(5).
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 {
		return procStat{}, fmt.Errorf("stat of process %d has %d fields", pid, len(fields)+2)
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	return procStat{state: fields[0][0], start: start}, err
}

func machineBoot() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}

// innerPID is the number that the process has in its own PID namespace.
func innerPID(pid int) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			all := strings.Fields(rest)
			return strconv.Atoi(all[len(all)-1])
		}
	}
	return 0, errors.New("no NSpid in the status of the process")
}

// readProcess reads a record of a process; none recorded is the zero process, which is not alive.
func readProcess(path string) (process, error) {
	var p process
	err := readJSON(path, &p)
	if errors.Is(err, fs.ErrNotExist) {
		return process{}, nil
	}
	return p, err
}

// signal sends sig to the recorded process, and to no other that has its PID now. One that has ended is an error that
// wraps ErrDown.
func (p process) signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err == nil {
		defer unix.Close(fd)
		if p.alive() {
			err = unix.PidfdSendSignal(fd, sig, nil, 0)
		} else {
			err = unix.ESRCH
		}
	}
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("process %d %w", p.PID, ErrDown)
	}
	if err != nil {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

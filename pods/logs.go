package pods

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// Logs copies what a container wrote to its standard output and error, the last tail lines or all where tail is 0; with
// follow it goes on until ctx ends or the pod leaves this host.
func (r *Runtime) Logs(ctx context.Context, pod, container string, tail int, follow bool, to io.Writer) error {
	if _, err := r.Record(pod); err != nil {
		return err
	}
	file, err := os.Open(r.logFile(pod, container))
	for errors.Is(err, fs.ErrNotExist) && follow && ctx.Err() == nil {
		time.Sleep(logPoll)
		file, err = os.Open(r.logFile(pod, container))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("log of container %s of pod %s: %w", container, pod, err)
	}
	defer file.Close()
	if tail > 0 {
		if err := seekTail(file, tail); err != nil {
			return err
		}
	}
	for {
		if _, err := io.Copy(to, file); err != nil {
			return err
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(logPoll):
		}
		if _, err := r.Record(pod); errors.Is(err, ErrNotFound) {
			_, err := io.Copy(to, file)
			return err
		}
		if err := rewindTruncated(file); err != nil {
			return err
		}
	}
}

const logPoll = 200 * time.Millisecond

// rewindTruncated starts a log over that was cut to keep it small.
func rewindTruncated(file *os.File) error {
	at, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < at {
		_, err = file.Seek(0, io.SeekStart)
	}
	return err
}

// seekTail finds the beginning of the last n lines.
func seekTail(file *os.File, n int) error {
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	const block = 64 << 10
	lines := 0
	for at := end; at > 0; {
		size := min(block, at)
		at -= size
		buf := make([]byte, size)
		if _, err := file.ReadAt(buf, at); err != nil {
			return err
		}
		for i := len(buf); i > 0; {
			i = bytes.LastIndexByte(buf[:i], '\n')
			if i < 0 {
				break
			}
			// The newline at the very end closes the last line.
			if at+int64(i) == end-1 {
				continue
			}
			if lines++; lines == n {
				_, err := file.Seek(at+int64(i)+1, io.SeekStart)
				return err
			}
		}
	}
	_, err = file.Seek(0, io.SeekStart)
	return err
}

// logLimit is how large a container's log may grow, in bytes; then it is begun anew.
const logLimit = 64 << 20

// TrimLogs keeps the logs of every pod on this host within their limit. The shim appends to them, so a log is cut in place.
func (r *Runtime) TrimLogs() error {
	names, err := r.Names()
	if err != nil {
		return err
	}
	var errs []error
	for _, pod := range names {
		rec, err := r.Record(pod)
		if err != nil {
			continue
		}
		for _, c := range rec.Spec.Containers {
			errs = append(errs, trimLog(r.logFile(pod, c.Name)))
		}
	}
	return errors.Join(errs...)
}

func trimLog(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() <= logLimit {
		return nil
	}
	return os.Truncate(path, 0)
}

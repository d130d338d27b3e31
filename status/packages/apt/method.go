package apt

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// method is apt's own verifier of signatures: the program that apt-get update hands every Release file to, with the host's
// keyrings and its rules for algorithms. It is spoken to as apt does it: the text protocol of apt's methods
// (https://deb.debian.org/debian, package libapt-pkg-doc, method.html).
type method struct {
	path, scheme string
	config       string
	start        func(ctx context.Context, name string, args ...string) *exec.Cmd
}

// verdict is what it says of one file.
type verdict struct {
	keys []string
	// failure is empty where the signature is good.
	failure string
}

// method finds the verifier that this apt uses: sqv from apt 3 on, where it is installed, gpgv otherwise.
func (a *Apt) method(ctx context.Context, p paths) (*method, error) {
	config, err := a.run(ctx, "apt-config", "dump", "--no-empty", "--format", "Config-Item: %F=%V%n")
	if err != nil {
		return nil, err
	}
	m := &method{config: config, start: a.command}
	for _, scheme := range []string{"sqv", "gpgv"} {
		m.path, m.scheme = filepath.Join(p.methods, scheme), scheme
		_, missing := exec.LookPath(scheme)
		if _, err := os.Stat(m.path); err == nil && missing == nil {
			return m, nil
		}
	}
	return nil, fmt.Errorf("apt has no method in %s that verifies signatures: install gpgv", p.methods)
}

// verify has the signature of a file verified; for a clear-signed file both are the same.
func (m *method) verify(ctx context.Context, signature, file, signedBy string) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := m.start(ctx, m.path)
	in, err := cmd.StdinPipe()
	if err != nil {
		return verdict{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return verdict{}, err
	}
	if err := cmd.Start(); err != nil {
		return verdict{}, fmt.Errorf("apt's method %s: %w", m.scheme, err)
	}
	request := fmt.Sprintf("600 URI Acquire\nURI: %s:%s\nFilename: %s\n", m.scheme, signature, file)
	if signedBy != "" {
		request += "Signed-By: " + signedBy + "\n"
	}
	_, werr := fmt.Fprintf(in, "601 Configuration\n%s\n%s\n", m.config, request)
	v, rerr := readVerdict(bufio.NewReader(out), file)
	// Only the end of its input ends it, and only then is its status known.
	_ = in.Close()
	err = cmd.Wait()
	if v.failure == "" && len(v.keys) == 0 {
		return verdict{}, fmt.Errorf("apt's method %s gave no verdict: %v, %v, %v", m.scheme, werr, rerr, err)
	}
	return v, nil
}

// readVerdict reads messages until one is the answer: 201 for a good signature, 400 for any other.
func readVerdict(r *bufio.Reader, file string) (verdict, error) {
	for {
		code, fields, err := readMessage(r)
		if err != nil {
			return verdict{}, err
		}
		switch code {
		case "201":
			if got := strings.TrimSpace(fields["filename"]); got != file {
				return verdict{}, fmt.Errorf("it answered for %q instead of %q", got, file)
			}
			var keys []string
			for key := range strings.FieldsSeq(fields["signed-by"]) {
				keys = append(keys, strings.TrimSuffix(key, "!"))
			}
			slices.Sort(keys)
			return verdict{keys: slices.Compact(keys)}, nil
		case "400", "401":
			return verdict{failure: strings.Join(strings.Fields(fields["message"]), " ")}, nil
		}
	}
}

func readMessage(r *bufio.Reader) (code string, fields map[string]string, err error) {
	fields = make(map[string]string)
	key := ""
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", nil, err
		}
		switch text := strings.TrimRight(line, "\r\n"); {
		case text == "" && code != "":
			return code, fields, nil
		case text == "":
		case code == "":
			code, _, _ = strings.Cut(text, " ")
		case text[0] == ' ':
			fields[key] += "\n" + text
		default:
			name, value, _ := strings.Cut(text, ":")
			key = strings.ToLower(name)
			fields[key] = strings.TrimSpace(value)
		}
	}
}

// changed is when a file was last written or put in its place. Its own time is of no use: apt sets it to the archive's.
func changed(path string) time.Time {
	var stat unix.Stat_t
	if unix.Stat(path, &stat) != nil {
		return time.Time{}
	}
	return time.Unix(stat.Ctim.Unix())
}

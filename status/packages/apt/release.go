package apt

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// release is what the signed part of a Release file says.
type release struct {
	origin, label, suite, codename string
	date, validUntil               time.Time
	// files are the indexes that it vouches for, by path below the release.
	files map[string]indexSum
}

// indexSum is how an index must look.
type indexSum struct {
	sha256 string
	size   int64
}

const (
	beginSigned    = "-----BEGIN PGP SIGNED MESSAGE-----"
	beginSignature = "-----BEGIN PGP SIGNATURE-----"
	endSignature   = "-----END PGP SIGNATURE-----"
)

// signedPart is what the signature of a clear-signed file covers. Anything before or after it, or a second message, is an
// error: what is read must be all that was verified, and nothing else.
func signedPart(data []byte) ([]byte, error) {
	lines := strings.SplitAfter(string(data), "\n")
	if strings.TrimRight(lines[0], "\r\n") != beginSigned {
		return nil, errors.New("it does not begin with a signed message")
	}
	at := 1
	for at < len(lines) && strings.TrimSpace(lines[at]) != "" {
		if !strings.HasPrefix(lines[at], "Hash: ") {
			return nil, errors.New("its signed message has a head that is not known")
		}
		at++
	}
	var content bytes.Buffer
	for at++; at < len(lines); at++ {
		line := lines[at]
		if strings.TrimRight(line, "\r\n") == beginSignature {
			break
		}
		if strings.HasPrefix(line, "-----") {
			return nil, errors.New("there is more than one message in it")
		}
		content.WriteString(strings.TrimPrefix(line, "- "))
	}
	for ; at < len(lines); at++ {
		if strings.TrimRight(lines[at], "\r\n") == endSignature {
			if rest := strings.TrimSpace(strings.Join(lines[at+1:], "")); rest != "" {
				return nil, errors.New("something follows its signature")
			}
			return content.Bytes(), nil
		}
	}
	return nil, errors.New("its signature has no end")
}

// parseRelease reads a Release file, which must be one stanza.
func parseRelease(data []byte) (release, error) {
	fields, err := parseStanza(data)
	if err != nil {
		return release{}, err
	}
	r := release{
		origin: fields["origin"], label: fields["label"], suite: fields["suite"], codename: fields["codename"],
		files: make(map[string]indexSum),
	}
	if r.date, err = parseDate(fields["date"]); err != nil {
		return r, fmt.Errorf("its date: %w", err)
	}
	if until := fields["valid-until"]; until != "" {
		if r.validUntil, err = parseDate(until); err != nil {
			return r, fmt.Errorf("the end of its validity: %w", err)
		}
	}
	for line := range strings.Lines(fields["sha256"]) {
		part := strings.Fields(line)
		if len(part) != 3 {
			continue
		}
		size, err := strconv.ParseInt(part[1], 10, 64)
		if err != nil {
			return r, fmt.Errorf("the size of %s: %w", part[2], err)
		}
		r.files[part[2]] = indexSum{sha256: part[0], size: size}
	}
	if len(r.files) == 0 {
		return r, errors.New("it vouches for no index by SHA256")
	}
	return r, nil
}

func parseStanza(data []byte) (map[string]string, error) {
	fields := make(map[string]string)
	key := ""
	scanner := bufio.NewScanner(bytes.NewReader(data))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		line := strings.TrimRight(scanner.Text(), " \r\t")
		switch {
		case line == "":
			key = ""
		case line[0] == ' ' || line[0] == '\t':
			fields[key] += "\n" + line
		default:
			name, value, found := strings.Cut(line, ":")
			key = strings.ToLower(name)
			if _, twice := fields[key]; twice || !found {
				return nil, fmt.Errorf("line %q is twice in it or no field", line)
			}
			fields[key] = strings.TrimSpace(value)
		}
	}
	return fields, scanner.Err()
}

func parseDate(text string) (time.Time, error) {
	var err error
	for _, layout := range []string{"Mon, 2 Jan 2006 15:04:05 MST", time.RFC1123Z} {
		var t time.Time
		if t, err = time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, err
}

package apt

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
)

// source is one release of one archive, as configured and as it lies here.
type source struct {
	wire *drydockv1.PackageSource
	// base is the release's URI; prefix is what its files in apt's lists begin with.
	base, prefix string
	indexes      []target
	options      map[string]string
	release      release
}

// target is an index of packages.
type target struct {
	// metaKey is its path below the release, file where it lies, as it was fetched or apt compressed it; empty where it does not.
	metaKey, file, arch string
}

// sources asks apt which indexes it is configured to have, whether they lie here or not.
func (a *Apt) sources(ctx context.Context, p paths) ([]*source, error) {
	const format = "$(SOURCESENTRY)|$(BASE_URI)|$(REPO_URI)|$(RELEASE)|$(METAKEY)|$(ARCHITECTURE)|$(FILENAME)"
	wanted, err := a.run(ctx, "apt-get", "indextargets", "--no-release-info", "--format", format, "Created-By: Packages")
	if err != nil {
		return nil, err
	}
	var all []*source
	for line := range strings.Lines(wanted) {
		part := strings.Split(strings.TrimSpace(line), "|")
		if len(part) != 7 {
			return nil, fmt.Errorf("apt-get indextargets wrote %q", line)
		}
		entry, base, repo, suite, key, arch, file := part[0], part[1], part[2], part[3], part[4], part[5], part[6]
		at := slices.IndexFunc(all, func(s *source) bool { return s.base == base })
		if at < 0 {
			s := &source{base: base, prefix: strings.TrimSuffix(file, strings.ReplaceAll(key, "/", "_"))}
			s.wire = &drydockv1.PackageSource{Id: strings.TrimSuffix(repo, "/") + " " + suite, Uri: repo, Suite: suite, Configured: entry}
			if s.options, err = optionsOf(entry); err != nil {
				return nil, err
			}
			at, all = len(all), append(all, s)
		}
		if strings.HasPrefix(arch, "$(") {
			arch = "" // a flat archive has no architectures
		}
		all[at].indexes = append(all[at].indexes, target{metaKey: key, file: existing(file), arch: arch})
	}
	return all, nil
}

// existing is the file as it lies here, whatever apt compressed it with, or empty.
func existing(file string) string {
	for _, end := range []string{"", ".lz4", ".gz", ".xz", ".zst", ".bz2", ".lzma"} {
		if _, err := os.Stat(file + end); err == nil {
			return file + end
		}
	}
	return ""
}

// optionsOf reads the options of an entry, which apt names by file and line or, in deb822 files, file and stanza.
func optionsOf(entry string) (map[string]string, error) {
	at := strings.LastIndexByte(entry, ':')
	number, err := strconv.Atoi(entry[at+1:])
	if err != nil || at < 0 {
		return nil, fmt.Errorf("apt named an entry of its sources %q", entry)
	}
	data, err := os.ReadFile(entry[:at])
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(entry[:at], ".sources") {
		return stanzaOptions(string(data), number)
	}
	lines := strings.Split(string(data), "\n")
	if number < 1 || number > len(lines) {
		return nil, fmt.Errorf("%s has no line %d", entry[:at], number)
	}
	return lineOptions(lines[number-1]), nil
}

// lineOptions reads `deb [trusted=yes signed-by=...] ...`.
func lineOptions(line string) map[string]string {
	options := make(map[string]string)
	_, rest, found := strings.Cut(line, "[")
	if !found {
		return options
	}
	inside, _, _ := strings.Cut(rest, "]")
	for word := range strings.FieldsSeq(inside) {
		key, value, _ := strings.Cut(word, "=")
		options[strings.ToLower(key)] = value
	}
	return options
}

// stanzaOptions reads the fields of a deb822 file's stanza. Stanzas that are only comments do not count.
func stanzaOptions(text string, number int) (map[string]string, error) {
	var stanzas []string
	var current strings.Builder
	flush := func() {
		if current.Len() > 0 {
			stanzas = append(stanzas, current.String())
		}
		current.Reset()
	}
	for scanner := bufio.NewScanner(strings.NewReader(text)); scanner.Scan(); {
		switch line := scanner.Text(); {
		case strings.TrimSpace(line) == "":
			flush()
		case !strings.HasPrefix(line, "#"):
			current.WriteString(line + "\n")
		}
	}
	flush()
	if number < 1 || number > len(stanzas) {
		return nil, fmt.Errorf("there is no stanza %d", number)
	}
	return parseStanza([]byte(stanzas[number-1]))
}

// signedBy is how apt hands its verifier the keys of a source: paths, fingerprints or an embedded key, quoted.
func (s *source) signedBy() string {
	value := strings.TrimSpace(s.options["signed-by"])
	if strings.HasPrefix(value, "-----BEGIN") {
		var key strings.Builder
		for line := range strings.Lines(value) {
			if line = strings.TrimSpace(line); line == "." {
				line = ""
			}
			key.WriteString(line + "\n")
		}
		value = key.String()
	}
	var quoted strings.Builder
	for _, c := range []byte(value) {
		if c <= ' ' || c == '%' || c >= 0x7f {
			fmt.Fprintf(&quoted, "%%%02x", c)
		} else {
			quoted.WriteByte(c)
		}
	}
	return quoted.String()
}

// told is an option with which apt is told not to verify the source.
func (s *source) told() string {
	for _, name := range []string{"trusted", "allow-insecure", "allow-weak", "allow-downgrade-to-insecure"} {
		switch value := strings.ToLower(s.options[name]); value {
		case "yes", "true", "1", "on", "enable", "with":
			return name + "=" + value
		}
	}
	return ""
}

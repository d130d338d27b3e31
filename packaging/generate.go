package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const maintainer = "The Drydock Authors <drydock@localhost>"

// completions are where each shell looks for what completes drydock's command line.
var completions = map[string]string{
	"bash": "/usr/share/bash-completion/completions/drydock",
	"zsh":  "/usr/share/zsh/vendor-completions/_drydock",
	"fish": "/usr/share/fish/vendor_completions.d/drydock.fish",
}

// generate makes the files that the repository does not hold, and returns where each goes and where it lies now.
func (p *pack) generate() (map[string]string, error) {
	made := map[string]string{}
	for shell, to := range completions {
		text, err := exec.Command(p.native, "completion", shell).Output()
		if err != nil {
			return nil, fmt.Errorf("completion for %s: %w", shell, err)
		}
		made[to] = filepath.Join(p.work, shell)
		if err := os.WriteFile(made[to], text, 0o644); err != nil {
			return nil, err
		}
	}
	if err := p.manPages(made); err != nil {
		return nil, err
	}
	to := "/usr/share/doc/drydock/changelog.gz"
	made[to] = filepath.Join(p.work, "changelog.gz")
	return made, p.compress(made[to], p.changelog())
}

// manPages has the program write its own, as only it knows all of its commands.
func (p *pack) manPages(made map[string]string) error {
	dir := filepath.Join(p.work, "man")
	cmd := exec.Command(p.native, "man-pages", dir)
	cmd.Env = append(os.Environ(), fmt.Sprint("SOURCE_DATE_EPOCH=", p.changed.Unix()))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("man pages: %w: %s", err, bytes.TrimSpace(out))
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) == 0 {
		return fmt.Errorf("%s wrote no man pages: %w", p.native, err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			return err
		}
		if err := p.compress(page+".gz", text); err != nil {
			return err
		}
		made["/usr/share/man/man1/"+filepath.Base(page)+".gz"] = page + ".gz"
	}
	return nil
}

func (p *pack) changelog() []byte {
	return fmt.Appendf(nil, "drydock (%s) unstable; urgency=medium\n\n  * This build; the repository's history tells what changed.\n\n -- %s  %s\n",
		p.version, maintainer, p.changed.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
}

// compress writes the same bytes for the same text each time: without a name or a time.
func (p *pack) compress(path string, text []byte) error {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, packed.Bytes(), 0o644)
}

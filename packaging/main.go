package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	binary := flag.String("binary", "build/drydock", "the program to package")
	here := flag.String("native", "", "the same program for this machine, which writes its own man pages; the one to package if empty")
	arch := flag.String("arch", "amd64", "Debian's name of the architecture that it is for")
	source := flag.String("source", ".", "the repository that the other files come from")
	out := flag.String("out", "build", "the directory to write the package to")
	flag.Parse()
	if *here == "" {
		*here = *binary
	}
	path, err := run(*binary, *here, *arch, *source, *out)
	if err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}

// run builds the package and returns its path.
func run(binary, native, arch, source, out string) (string, error) {
	work, err := os.MkdirTemp("", "drydock-packaging-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	version, changed, err := versionOf(native)
	if err != nil {
		return "", err
	}
	p := &pack{binary: binary, native: native, arch: arch, source: source, work: work, version: version, changed: changed}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(out, fmt.Sprintf("drydock_%s_%s.deb", version, arch))
	return path, p.write(path)
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
)

// pack is one package in the making.
type pack struct {
	binary, native string
	arch           string
	source         string // the repository
	work           string // a directory for what is made on the way
	version        string
	changed        time.Time // of every file, so that the same source gives the same package
}

// Which CRIU works with a kernel is proved on the host by a dump and a restore; before 4.1 none works with Debian's.
var depends = []string{
	"containerd (>= 1.7)", "criu (>= 4.1)", "init-system-helpers (>= 1.52)", "iproute2", "nftables", "runc",
}

const description = `Patch a pool of Linux hosts while their pods run on
 Drydock finds the hosts of a pool that need a patch, moves their running pods
 to other hosts with their memory and their open TCP connections, patches and
 reboots the empty host, checks it, and goes on to the next.
 .
 This package holds the one program that is controller, agent and command
 line, and a systemd unit for each of the first two. Neither is started
 before it has been configured and enabled.`

// write builds the package at path.
func (p *pack) write(path string) error {
	contents, err := p.contents()
	if err != nil {
		return err
	}
	info := &nfpm.Info{
		Name: "drydock", Arch: p.arch, Platform: "linux", Version: p.version, VersionSchema: "none",
		Section: "admin", Priority: "optional", Maintainer: maintainer, Description: description,
		MTime: p.changed, DisableGlobbing: true,
		Overridables: nfpm.Overridables{
			Depends:  depends,
			Suggests: []string{"etcd-client"},
			Contents: contents,
			Scripts: nfpm.Scripts{
				PreRemove: p.script("prerm"), PostInstall: p.script("postinst"), PostRemove: p.script("postrm"),
			},
			// gzip is unpacked five times as fast as xz, which counts where a host is emulated.
			Deb: nfpm.Deb{Compression: "gzip"},
		},
	}
	if err := nfpm.PrepareForPackager(info, "deb"); err != nil {
		return fmt.Errorf("package: %w", err)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := deb.Default.Package(info, f); err != nil {
		f.Close()
		os.Remove(path)
		return fmt.Errorf("package %s: %w", path, err)
	}
	return f.Close()
}

func (p *pack) script(name string) string {
	return filepath.Join(p.source, "packaging", "scripts", name)
}

// contents lists every file of the package.
func (p *pack) contents() (files.Contents, error) {
	var list files.Contents
	add := func(kind, source, to string, mode os.FileMode) {
		list = append(list, &files.Content{
			Source: source, Destination: to, Type: kind,
			FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: p.changed},
		})
	}
	from := func(rel string) string { return filepath.Join(p.source, rel) }
	add(files.TypeFile, p.binary, "/usr/bin/drydock", 0o755)
	for _, unit := range []string{"drydock-agent.service", "drydock-controller.service"} {
		add(files.TypeFile, from("configs/systemd/"+unit), "/usr/lib/systemd/system/"+unit, 0o644)
	}
	for _, name := range []string{"agent.yaml", "controller.yaml"} {
		add(files.TypeConfigNoReplace, from("configs/"+name), "/etc/drydock/"+name, 0o644)
	}
	add(files.TypeConfigNoReplace, from("configs/grub/drydock.cfg"), "/etc/default/grub.d/drydock.cfg", 0o644)
	add(files.TypeFile, from("configs/systemd/drydock-watchdog.conf"), "/usr/lib/systemd/system.conf.d/50-drydock.conf", 0o644)
	add(files.TypeFile, from("packaging/files/copyright"), "/usr/share/doc/drydock/copyright", 0o644)
	add(files.TypeFile, from("packaging/files/lintian-overrides"), "/usr/share/lintian/overrides/drydock", 0o644)
	for _, dir := range []string{"configs/pods", "configs/pools", "configs/services"} {
		found, err := filepath.Glob(filepath.Join(from(dir), "*.yaml"))
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("no examples in %s: %w", from(dir), err)
		}
		for _, path := range found {
			to := "/usr/share/doc/drydock/examples/" + strings.TrimPrefix(dir, "configs/") + "/" + filepath.Base(path)
			add(files.TypeFile, path, to, 0o644)
		}
	}
	made, err := p.generate()
	if err != nil {
		return nil, err
	}
	for to, path := range made {
		add(files.TypeFile, path, to, 0o644)
	}
	return list, nil
}

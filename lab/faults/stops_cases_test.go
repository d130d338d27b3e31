//go:build faults

package faults

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"drydock/lab"

	drydockv1 "drydock/api/drydock/v1"
)

// causes are all that must stop a rollout.
func causes() []cause {
	return []cause{
		{name: "a package whose postinst fails", play: (*roll).failingPostinst},
		{name: "a gate that goes red", play: (*roll).redGate},
		{name: "a repository that vanishes", play: (*roll).vanishingRepository},
		{name: "an expired Release file", play: (*roll).expiredRelease},
		{name: "a wrong signature", play: (*roll).wrongSignature},
		{name: "a full boot disk", play: (*roll).fullBoot},
		{name: "a host that does not come back", play: (*roll).lostHost},
		{name: "a window that closes", play: (*roll).closingWindow},
	}
}

// shortCauses are two of them that take little time: one for a host, one for the pool.
func shortCauses() []cause { return causes()[:2] }

// failingPostinst: the host that fails is out, and the other is not begun with.
func (r *roll) failingPostinst() {
	r.must(r.offer(func(tree string) error {
		script := "#!/bin/sh\n[ -e /etc/mended ] || { echo the disk is on fire >&2; exit 7; }\n"
		return os.WriteFile(filepath.Join(tree, "DEBIAN", "postinst"), []byte(script), 0o755)
	}))
	r.must(r.patch(r.pool("")))
	r.must(r.stops(0, "package "+offered, "the disk is on fire", "1 host failed, and the error budget is 0"))
	r.must(r.onHosts(r.Hosts(), "touch", "/etc/mended"))
	r.must(r.goesOn())
}

// redGate: the first host is patched, and then the gate is red for longer than its patience.
func (r *roll) redGate() {
	h := r.health()
	defer h.server.Close()
	r.must(r.offer(nil))
	r.must(r.patch(r.pool(fmt.Sprintf("gates: [{name: clients, http: {url: %q}, patience: 2s}]\n", h.url))))
	r.must(r.stops(1, "gate clients", "503", "it stayed red for 2s"))
	h.green.Store(true)
	r.must(r.goesOn())
}

// health is what a gate asks on the controller's host.
type health struct {
	url    string
	green  atomic.Bool
	server *http.Server
}

func (r *roll) health() *health {
	h := &health{}
	h.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !h.green.Load() {
			http.Error(w, "clients wait", http.StatusServiceUnavailable)
		}
	})}
	r.must(r.InNetNS(lab.ControllerNode, func() error {
		listener, err := net.Listen("tcp", r.Address(lab.ControllerNode)+":0")
		if err == nil {
			h.url = "http://" + listener.Addr().String() + "/health"
			go func() { _ = h.server.Serve(listener) }()
		}
		return err
	}))
	return h
}

// vanishingRepository: before the plan nothing is begun; after it the download fails, and no pod has moved.
func (r *roll) vanishingRepository() {
	r.must(r.offer(nil))
	pool := r.pool("")
	r.must(r.vanish())
	r.must(r.refused(pool, "the last refresh failed"))
	r.must(r.back())
	r.must(r.at("download", pool, r.vanish))
	r.must(r.stops(0, "download", "apt cannot fetch the patch", "bring the archive back"))
	r.must(r.back())
	r.must(r.goesOn())
}

// vanish takes the archive's indexes and package files away, and back brings them back.
func (r *roll) vanish() error {
	dir := r.RepositoryDir()
	return errors.Join(os.Rename(filepath.Join(dir, "dists"), filepath.Join(dir, "dists.gone")), os.Rename(filepath.Join(dir, "pool"), filepath.Join(dir, "pool.gone")))
}

func (r *roll) back() error {
	dir := r.RepositoryDir()
	return errors.Join(os.Rename(filepath.Join(dir, "dists.gone"), filepath.Join(dir, "dists")), os.Rename(filepath.Join(dir, "pool.gone"), filepath.Join(dir, "pool")))
}

// expiredRelease: what is offered is not known, and nothing is begun.
func (r *roll) expiredRelease() {
	until := r.archive.Until
	r.archive.Until = time.Now().Add(-time.Hour)
	r.must(r.offer(nil))
	pool := r.pool("")
	r.must(r.refused(pool, "expired", "ask its keeper"))
	r.archive.Until = until
	r.must(r.publish())
	r.must(r.patch(pool))
	r.must(r.finishes(r.Hosts()...))
}

// wrongSignature: one host does not know the key. Without an error budget nothing is begun; with one the other host is patched.
func (r *roll) wrongSignature() {
	first, second := r.Hosts()[0], r.Hosts()[1]
	archive, err := r.Rekey(first)
	r.must(err)
	r.archive.Key = archive.Key
	r.must(r.offer(nil))
	r.must(r.refused(r.pool(""), "host "+second+": source ", "signed-by in /etc/apt/sources.list"))
	// Neither host is drained: the other takes no pods while it cannot say what it lacks.
	pool := r.pool("error-budget: {hosts: 1}\npatch: {without-drain: true}\n")
	r.must(r.patch(pool))
	r.must(r.finishes(first))
	r.must(r.Trust(archive, second))
	r.must(r.patch(pool))
	r.must(r.finishes(second))
}

// fullBoot: a kernel for which /boot has no room is not begun with. Where /boot fills up later, dpkg fails.
func (r *roll) fullBoot() {
	r.must(r.offerKernel())
	pool := r.pool("patch: {what: all}\n")
	r.must(r.onHosts(r.Hosts(), "mount", "-t", "tmpfs", "-o", "size=1m", "boot", "/boot"))
	r.must(r.refused(pool, "/boot has ", kernelRelease, "apt-get autoremove --purge"))
	grow := []string{"mount", "-o", "remount,size=200m", "/boot"}
	r.must(r.onHosts(r.Hosts(), grow...))
	var host string
	r.must(r.at("patch", pool, func() (err error) {
		if host, err = r.patchedHost(); err != nil {
			return err
		}
		return r.onHosts([]string{host}, "mount", "-o", "remount,size=1m", "/boot")
	}))
	r.must(r.stops(0, "host "+host, "No space left on device"))
	r.must(r.onHosts([]string{host}, grow...))
	r.must(r.goesOn())
}

// lostHost: the host goes down for its reboot and does not come back. It is fenced, and the other runs all pods.
func (r *roll) lostHost() {
	restore := r.bootWithin("45s")
	r.must(r.offer(nil))
	pool := r.pool("reboot: always\nfence: {command: [/bin/true, \"{host}\"]}\n")
	var host string
	r.must(r.at("reboot", pool, func() (err error) {
		if host, err = r.patchedHost(); err != nil {
			return err
		}
		return r.KillHost(r.ctx, host)
	}))
	r.must(r.stops(0, "host "+host+" is not back after 45s", "it was switched off", "look after it"))
	r.must(restore())
	r.must(r.StartHost(r.ctx, host))
	r.must(r.awaitHostIn(host, "cordoned"))
	r.must(r.goesOn())
}

// bootWithin has the controller wait less long for a boot, until what it returns is called: a machine may be slow.
func (r *roll) bootWithin(limit string) (restore func() error) {
	file := filepath.Join(r.ConfigDir(lab.ControllerNode), "controller.yaml")
	before, err := os.ReadFile(file)
	r.must(err)
	put := func(text []byte) error {
		return errors.Join(os.WriteFile(file, text, 0o644), r.killService(controller, "controller"))
	}
	r.must(put(append(before, "timings: {boot-timeout: "+limit+"}\n"...)))
	return func() error { return put(before) }
}

// closingWindow: the first host is patched while the window is open, and the second once the next one opens.
func (r *roll) closingWindow() {
	h := r.health()
	defer h.server.Close()
	r.must(r.offer(nil))
	now := time.Now().UTC()
	closes := now.Add(5 * time.Minute).Truncate(time.Minute) // time enough for the first host, on a slow machine too
	opens := closes.Add(time.Minute)
	window := func(from, to time.Time) string {
		return fmt.Sprintf("  - {from: %q, to: %q, min-left: 1s}\n", from.Format("15:04"), to.Format("15:04"))
	}
	r.must(r.patch(r.pool("windows:\n" + window(now.Add(-time.Minute), closes) + window(opens, opens.Add(30*time.Minute)) +
		fmt.Sprintf("gates: [{name: clients, http: {url: %q}, patience: 1h}]\n", h.url))))
	r.must(r.await("the first host", func(is *drydockv1.Rollout) bool { return is.HostsPatched == 1 && is.Step == "gates" }))
	time.Sleep(time.Until(closes))
	h.green.Store(true)
	r.must(r.await("the wait for the window", func(is *drydockv1.Rollout) bool {
		return is.State == drydockv1.RolloutState_ROLLOUT_STATE_WAITING && strings.HasPrefix(is.Reason, "the window is closed until ") &&
			is.Until.AsTime().Equal(opens) && is.HostsPatched == 1
	}))
	r.must(r.served())
	r.must(r.finishes(r.Hosts()...))
}

package patch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/durable"

	"github.com/godbus/dbus/v5"
)

// inhibitor keeps others from rebooting the host, as long as its file is open.
type inhibitor struct {
	mu   sync.Mutex
	file *os.File
}

// occupied is what is remembered of it, so that a program that starts anew in the same boot takes it again.
type occupied struct {
	Why  string `json:"why"`
	Boot string `json:"boot"`
}

// Occupy keeps everything else on the host from rebooting it, until Release, Reboot, or the next boot. held is false on a host
// without logind, where nothing can ask for that.
func (h *Host) Occupy(ctx context.Context, why string) (held bool, automatic []*drydockv1.Refusal, err error) {
	before, err := h.wasOccupied()
	if err != nil {
		return false, nil, err
	}
	data, err := json.Marshal(occupied{Why: why, Boot: h.cfg.Boot})
	if err != nil {
		return false, nil, err
	}
	if err := h.remember(ctx, before == nil); err != nil {
		return false, nil, err
	}
	if err := durable.Replace(h.occupiedPath(), data, 0o600); err != nil {
		return false, nil, err
	}
	held, err = h.block(ctx, why)
	return held, rebootsByThemselves(ctx), err
}

// Resume takes again what an earlier program held in this boot.
func (h *Host) Resume(ctx context.Context) error {
	before, err := h.wasOccupied()
	if err != nil || before == nil {
		return err
	}
	_, err = h.block(ctx, before.Why)
	return err
}

// wasOccupied is what was asked for in this boot, nil where nothing was.
func (h *Host) wasOccupied() (*occupied, error) {
	var o occupied
	data, err := os.ReadFile(h.occupiedPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &o)
	}
	if err != nil {
		return nil, fmt.Errorf("who occupies the host, %s: %w", h.occupiedPath(), err)
	}
	if o.Boot != h.cfg.Boot {
		return nil, nil
	}
	return &o, nil
}

// Release lets others reboot the host again, unless pods are on it.
func (h *Host) Release() error {
	err := errors.Join(durable.Remove(h.occupiedPath()), durable.Remove(h.baselinePath()))
	if !h.guarded.Load() {
		err = errors.Join(err, h.inhibitor.release())
	}
	return err
}

// Guard keeps everything else on the host from rebooting it for as long as pods are on it, also while nothing patches it. It is to be
// called again and again.
func (h *Host) Guard(ctx context.Context, pods bool) error {
	h.guarded.Store(pods)
	if h.down.now() {
		return nil // Drydock itself has proved that no pod is left, and reboots it
	}
	if pods {
		_, err := h.block(ctx, "pods run here: `drydock host drain` moves them")
		return err
	}
	before, err := h.wasOccupied()
	if err == nil && before == nil {
		err = h.inhibitor.release()
	}
	return err
}

// block takes logind's lock that blocks a shutdown, unless it is held already; false where there is no logind.
func (h *Host) block(ctx context.Context, why string) (bool, error) {
	i := &h.inhibitor
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.file != nil {
		return true, nil
	}
	manager, done, err := h.logind(ctx)
	if manager == nil || err != nil {
		return false, err
	}
	defer done()
	var fd dbus.UnixFD
	if err := manager.CallWithContext(ctx, "org.freedesktop.login1.Manager.Inhibit", 0, "shutdown", "Drydock", why, "block").Store(&fd); err != nil {
		return false, fmt.Errorf("ask logind to block reboots: %w", err)
	}
	i.file = os.NewFile(uintptr(fd), "inhibitor")
	return true, nil
}

func (i *inhibitor) release() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.file == nil {
		return nil
	}
	err := i.file.Close()
	i.file = nil
	return err
}

// logind is the host's, nil where there is none.
func (h *Host) logind(ctx context.Context) (dbus.BusObject, func(), error) {
	if !h.underSystemd() {
		return nil, nil, nil
	}
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to D-Bus: %w; see `systemctl status dbus` on the host", err)
	}
	return bus.Object("org.freedesktop.login1", "/org/freedesktop/login1"), func() { _ = bus.Close() }, nil
}

// rebootsByThemselves finds what is told to reboot the host when it sees fit.
func rebootsByThemselves(ctx context.Context) []*drydockv1.Refusal {
	var found []*drydockv1.Refusal
	out, err := exec.CommandContext(ctx, "apt-config", "dump", "--format", "%v%n", "Unattended-Upgrade::Automatic-Reboot").Output()
	if err == nil && isTrue(string(out)) {
		found = append(found, Refusal(`write Unattended-Upgrade::Automatic-Reboot "false"; to /etc/apt/apt.conf.d/99drydock on the host`,
			"unattended-upgrades reboots the host by itself: Unattended-Upgrade::Automatic-Reboot is on"))
	}
	const automatic = "/etc/dnf/automatic.conf"
	data, _ := os.ReadFile(automatic)
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, "=")
		if value = strings.TrimSpace(value); strings.TrimSpace(key) == "reboot" && value != "never" {
			found = append(found, Refusal("write `reboot = never` to "+automatic+" on the host", "dnf-automatic reboots the host by itself: %s says reboot = %s", automatic, value))
		}
	}
	return found
}

// isTrue reads a value as apt does.
func isTrue(value string) bool {
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "yes", "true", "with", "on", "enable", "1":
		return true
	}
	return false
}

package bench

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab/images"

	"connectrpc.com/connect"
)

// drydock moves a pod in one mode.
type drydock struct {
	*hosts
	pod  string
	mode drydockv1.MigrationMode
	addr string
}

func newDrydock(h *hosts, mode string) *drydock {
	return &drydock{hosts: h, pod: "redis-" + mode, mode: modes()[mode]}
}

// modes are those that this kernel could allow.
func modes() map[string]drydockv1.MigrationMode {
	return map[string]drydockv1.MigrationMode{
		"stop":     drydockv1.MigrationMode_MIGRATION_MODE_STOP,
		"postcopy": drydockv1.MigrationMode_MIGRATION_MODE_POSTCOPY,
	}
}

func (d *drydock) name() string    { return "drydock_" + strings.TrimPrefix(d.pod, "redis-") }
func (d *drydock) address() string { return d.addr }

func (d *drydock) start(ctx context.Context, host string) error {
	if d.addr != "" {
		if _, err := d.RemovePod(ctx, connect.NewRequest(&drydockv1.RemovePodRequest{Name: d.pod, Force: true})); err != nil {
			return fmt.Errorf("remove pod %s: %w", d.pod, err)
		}
	}
	pod, err := d.Run(ctx, redisPod(d.pod, true), host)
	if err != nil {
		return err
	}
	d.addr, err = podAddress(pod)
	return err
}

// redisPod asks for Redis in a pod, if asRoot as the user that all contenders run it as.
func redisPod(name string, asRoot bool) *drydockv1.PodSpec {
	container := &drydockv1.Container{Name: "redis", Image: images.Redis}
	if asRoot {
		container.Security = &drydockv1.Security{RunAsUser: new(int64), RunAsGroup: new(int64)}
	}
	return &drydockv1.PodSpec{
		Name: name, AllowPostcopy: true, RestartPolicy: drydockv1.RestartPolicy_RESTART_POLICY_NEVER,
		Containers: []*drydockv1.Container{container},
	}
}

func podAddress(pod *drydockv1.Pod) (string, error) {
	for _, address := range pod.GetSpec().GetAddresses() {
		prefix, err := netip.ParsePrefix(address)
		if err == nil {
			return prefix.Addr().String(), nil
		}
	}
	return "", fmt.Errorf("pod %s has no address", pod.GetSpec().GetName())
}

func (d *drydock) move(ctx context.Context, _, to string) (time.Duration, error) {
	report, err := d.Move(ctx, d.pod, to, d.mode, nil)
	return report.GetFreeze().AsDuration(), err
}

// tidy has nothing to do: a migration is over when nothing is left.
func (d *drydock) tidy(context.Context, string) error { return nil }

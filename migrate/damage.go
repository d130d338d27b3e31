package migrate

import (
	"errors"
	"fmt"
	"slices"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/config"
	"drydock/pods"
)

// ErrDamaged is what is wrong with a pod whose journal or record cannot be read. Nothing of such a pod is touched.
var ErrDamaged = errors.New("what this host remembers of the pod cannot be read, so nothing of it is touched")

// Remembered lists every pod of which this host remembers something, in order.
func (e *Engine) Remembered() ([]string, error) {
	journaled, err := e.journals.pods()
	if err != nil {
		return nil, err
	}
	recorded, err := e.Pods.Names()
	if err != nil {
		return nil, err
	}
	all := append(journaled, recorded...)
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Damage says why a pod's journal or record cannot be read; nil where both can, or there is none.
func (e *Engine) Damage(pod string) error {
	_, err := e.journals.load(pod)
	if _, rerr := e.Pods.Record(pod); rerr != nil && !errors.Is(rerr, pods.ErrNotFound) {
		err = errors.Join(err, rerr)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// validNames refuses a request whose names could lead out of the directories that they become parts of.
func validNames(migration string, spec *drydockv1.PodSpec) error {
	if !config.ValidName(migration) {
		return fmt.Errorf("migration %q is no name that a controller gives", migration)
	}
	names := []string{spec.GetName()}
	for _, c := range spec.GetContainers() {
		names = append(names, c.GetName())
	}
	for _, v := range spec.GetVolumes() {
		names = append(names, v.GetName())
	}
	for _, name := range names {
		if !config.ValidName(name) {
			return fmt.Errorf("migration %s: %q is no name of a pod, container or volume: 1 to 63 of a-z, 0-9 and -", migration, name)
		}
	}
	return nil
}

package manifest

import (
	"fmt"
	"path"
	"slices"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
)

func (v *validator) volumes() {
	var names []string
	for i, vol := range v.spec.GetVolumes() {
		field := fmt.Sprintf("volumes[%d]", i)
		v.label(field+".name", vol.GetName())
		v.unique(&names, field+".name", vol.GetName())
		switch kind := vol.GetKind().(type) {
		case nil:
			v.add(field, "is of no kind", "make it local, shared or memory (emptyDir or hostPath in a manifest)")
		case *drydockv1.Volume_Shared_:
			if p := kind.Shared.GetPath(); !path.IsAbs(p) || path.Clean(p) == "/" || hasDotDot(p) {
				v.add(field+".shared.path", fmt.Sprintf("%q is not a directory to share", p), "give an absolute path other than /, without ..")
			}
		case *drydockv1.Volume_Memory_:
			if kind.Memory.GetSizeBytes() <= 0 {
				v.add(field+".memory.size_bytes", "is missing", "say how much it may hold; it moves with the pod's memory")
			}
		}
	}
}

func (v *validator) mounts(container string, mounts []*drydockv1.VolumeMount) {
	var taken []string
	for i, m := range mounts {
		field := fmt.Sprintf("%s.mounts[%d]", container, i)
		if v.volume(m.GetVolume()) == nil {
			v.add(field+".volume", fmt.Sprintf("the pod has no volume %q", m.GetVolume()), "add it to the pod's volumes, or correct the name")
		}
		if !path.IsAbs(m.GetPath()) || hasDotDot(m.GetPath()) {
			v.add(field+".path", fmt.Sprintf("%q is not absolute", m.GetPath()), "begin it with /, and leave out ..")
			continue
		}
		at := path.Clean(m.GetPath())
		v.place(field+".path", at)
		for _, other := range taken {
			if within(at, other) || within(other, at) {
				v.add(field+".path", fmt.Sprintf("%s and %s lie in one another", at, other), "mount them side by side")
			}
		}
		taken = append(taken, at)
	}
}

// place refuses what the runtime mounts itself.
func (v *validator) place(field, at string) {
	for _, own := range []string{"/proc", "/sys", "/dev"} {
		if within(at, own) {
			v.add(field, fmt.Sprintf("%s belongs to the kernel's file systems", at), "mount it elsewhere")
		}
	}
	for _, file := range []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} {
		if at == "/" || within(file, at) {
			v.add(field, fmt.Sprintf("%s would hide %s", at, file), "mount it elsewhere")
			return
		}
	}
}

func (v *validator) volume(name string) *drydockv1.Volume {
	for _, vol := range v.spec.GetVolumes() {
		if vol.GetName() == name {
			return vol
		}
	}
	return nil
}

// placed is a mount of a volume, and where in the spec it is.
type placed struct {
	*drydockv1.VolumeMount
	field string
}

func (v *validator) placed() []placed {
	var all []placed
	for i, c := range v.spec.GetContainers() {
		for j, m := range c.GetMounts() {
			all = append(all, placed{m, fmt.Sprintf("containers[%d].mounts[%d]", i, j)})
		}
	}
	return all
}

// subPaths sees to it that a sub path always lies in its volume: a container that may write above it could put a symbolic
// link in its place, which the runtime would follow into the host the next time it starts the other container.
func (v *validator) subPaths() {
	all := v.placed()
	for _, m := range all {
		sub := m.GetSubPath()
		vol := v.volume(m.GetVolume())
		if sub == "" || vol == nil {
			continue
		}
		field := m.field + ".sub_path"
		switch {
		case path.IsAbs(sub) || hasDotDot(sub) || path.Clean(sub) == ".":
			v.add(field, fmt.Sprintf("%q does not lie below the volume", sub), "give a path without / in front and without ..")
			continue
		case vol.GetShared() != nil:
			v.add(field, "others can change a shared volume under the pod", "make it part of the volume's own path")
			continue
		case vol.GetMemory() != nil:
			v.add(field, "memory volumes have none", "remove it, or use a local volume")
			continue
		}
		above := slices.IndexFunc(all, func(o placed) bool {
			return o.GetVolume() == m.GetVolume() && !o.GetReadOnly() && path.Clean("/"+o.GetSubPath()) != path.Clean("/"+sub) &&
				within(path.Clean("/"+sub), path.Clean("/"+o.GetSubPath()))
		})
		if above >= 0 {
			v.add(field, fmt.Sprintf("%s can write above it", all[above].field), "mount that one read-only, or use two volumes")
		}
	}
}

// memoryMounts refuses a second mount of a memory volume: it is a tmpfs of one container, whose content moves with it.
func (v *validator) memoryMounts() {
	var seen []string
	for _, m := range v.placed() {
		if v.volume(m.GetVolume()).GetMemory() == nil {
			continue
		}
		if slices.Contains(seen, m.GetVolume()) {
			v.add(m.field+".volume", fmt.Sprintf("memory volume %s is mounted twice", m.GetVolume()),
				"mount it in one place, or make it a local volume")
		}
		seen = append(seen, m.GetVolume())
	}
}

// within says whether a clean absolute path is another or lies below it.
func within(inner, outer string) bool {
	return inner == outer || outer == "/" || strings.HasPrefix(inner, outer+"/")
}

func hasDotDot(p string) bool {
	return slices.Contains(strings.Split(p, "/"), "..")
}

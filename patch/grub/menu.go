package grub

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// entry starts one certain kernel.
type entry struct {
	release string
	// path has the ids of the menu that it is in and its own.
	path string
	// line is the kernel's command line.
	line string
}

// endsPanics says whether the kernel resets the machine after a panic.
func (e entry) endsPanics() bool {
	return slices.ContainsFunc(strings.Fields(e.line), func(word string) bool {
		value, is := strings.CutPrefix(word, "panic=")
		return is && value != "0"
	})
}

// opening is the first line of a menu or of an entry; grub-mkconfig gives each an id that does not change with the others.
var opening = regexp.MustCompile(`^\s*(submenu|menuentry) .*\$menuentry_id_option '([^']+)' \{`)

// parse finds the entries that grub-mkconfig made for each kernel, but for those that start it in recovery mode and the one at the
// top, which starts whichever is the newest.
func parse(config string) []entry {
	var found []entry
	var menu string
	var now *entry
	for line := range strings.Lines(config) {
		opened := opening.FindStringSubmatch(line)
		words := strings.Fields(line)
		switch {
		case opened != nil && opened[1] == "submenu":
			menu = opened[2] + ">"
		case opened != nil:
			now = &entry{path: menu + opened[2]}
		case line == "}\n" && menu != "":
			menu, now = "", nil
		case now != nil && len(words) > 1 && words[0] == "linux":
			now.release, _ = strings.CutPrefix(path.Base(words[1]), "vmlinuz-")
			now.line = line
			if strings.Contains(now.path, "gnulinux-"+now.release+"-advanced-") {
				found = append(found, *now)
			}
			now = nil
		}
	}
	return found
}

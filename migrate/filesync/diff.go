package filesync

// name is one name of a node, in the directory dir.
type name struct {
	dir  *node
	path string
	node *node
}

// diff is what happened to the names of a tree between two walks, in the order in which a target can follow: first every
// old name that is no longer true is taken away, deepest first, what lives on under another name only being put aside; then
// directories appear under their new names, outermost first; then everything else.
type diff struct {
	gone  []name // paths of the old tree
	dirs  []name // paths of the new tree
	files []name
	nodes []*node // all but directories, once each
	tops  []*node // all directories, outermost first
}

func compare(old, now *tree) *diff {
	d := &diff{}
	d.collect(now.root, "")
	if old != nil {
		d.vanish(old.root, "")
	}
	return d
}

// collect sorts the names below dir into those that the target has and those that it lacks.
func (d *diff) collect(dir *node, path string) {
	d.tops = append(d.tops, dir)
	var before []entry
	if dir.old != nil {
		before = dir.old.entries
	}
	for _, e := range dir.entries {
		for len(before) > 0 && before[0].name < e.name {
			before = before[1:]
		}
		n := e.node
		kept := len(before) > 0 && before[0].name == e.name && before[0].node.next == n
		switch {
		case kept:
			n.kept = true
			if n.parent == nil {
				n.parent, n.name = dir, e.name
			}
		case n.isDir():
			d.dirs = append(d.dirs, name{dir, joinPath(path, e.name), n})
		default:
			d.files = append(d.files, name{dir, joinPath(path, e.name), n})
		}
		if n.isDir() {
			d.collect(n, joinPath(path, e.name))
		} else if !n.visited {
			n.visited = true
			d.nodes = append(d.nodes, n)
		}
	}
}

// vanish collects the names below the old directory dir that are no longer true.
func (d *diff) vanish(dir *node, path string) {
	var after []entry
	if dir.next != nil {
		after = dir.next.entries
	}
	for _, e := range dir.entries {
		for len(after) > 0 && after[0].name < e.name {
			after = after[1:]
		}
		if e.node.isDir() {
			d.vanish(e.node, joinPath(path, e.name))
		}
		if len(after) > 0 && after[0].name == e.name && after[0].node == e.node.next {
			continue
		}
		d.gone = append(d.gone, name{dir, joinPath(path, e.name), e.node})
	}
}

package owner

import "fmt"

const pod = "p"

// memory is what a copy of the pod knows: the writes that it acknowledged, and what it wrote to its volume.
type memory struct {
	incarnation  uint64
	acked, wrote int
}

// image is a dump of a frozen pod, in the receiving host's memory.
type image struct {
	migration string
	memory    memory
	files     int
	source    *host
	boot      int // of the source
	pages     bool
}

// host is a machine. A boot empties what its kernel holds; its disk stays.
type host struct {
	w       *world
	name    string
	up      bool
	dead    bool // for ever
	boot    int
	agent   *agent
	onDisk  disk
	kernel  kernel
	claimed bool // dead, by the operator's word
}

type disk struct {
	journal Journal
	files   int    // writes to a volume that is not shared
	ran     string // CRIU's hook was passed for this migration
	fence   fenceFile
}

// kernel is what survives the agent, but no boot.
type kernel struct {
	tasks   Tasks
	plugged bool
	memory  memory
	image   *image
	busy    bool
	lazy    bool // pages are still to come
	lost    bool // they never will, or one container was not restored
	work    int  // counts CRIU's runs, so that one that was killed does nothing any more
}

func (h *host) bootID() string { return fmt.Sprintf("%s.%d", h.name, h.boot) }

func (h *host) place() Place { return Place{h.name, h.bootID()} }

func (h *host) powerOff(why string) {
	if !h.up {
		return
	}
	h.w.logf("%s goes down: %s", h.name, why)
	h.up = false
	h.agent.crash("host is down")
	h.kernel = kernel{tasks: NoTasks}
}

func (h *host) powerOn() {
	if h.up || h.dead {
		return
	}
	h.up, h.claimed = true, false
	h.boot++
	h.w.logf("%s boots: %s", h.name, h.bootID())
	h.agent.start()
}

func (h *host) set(tasks Tasks) {
	if h.kernel.tasks != tasks {
		h.w.logf("%s: tasks %s", h.name, tasks)
	}
	h.kernel.tasks = tasks
	if tasks == NoTasks {
		h.kernel.plugged = false
	}
}

// criu does something later, in a scope of its own: the agent's end is not its end, but a kill or a boot is.
func (h *host) criu(ms int64, do func()) {
	h.kernel.busy = true
	h.kernel.work++
	work, boot := h.kernel.work, h.boot
	h.w.after(ms, func() {
		if h.up && h.boot == boot && h.kernel.work == work {
			h.kernel.busy = false
			do()
		}
	})
}

// restore rebuilds the tasks from the image, and then waits in the post-restore hook.
func (h *host) restore() {
	h.set(NoTasks)
	h.kernel.lazy, h.kernel.lost = false, false
	h.criu(h.w.between(5, 60), func() {
		if h.w.chance(h.w.faults.criu) || h.kernel.image == nil {
			h.w.logf("%s: restore fails", h.name)
			return
		}
		h.kernel.memory = h.kernel.image.memory
		h.kernel.lazy = !h.kernel.image.pages
		h.kernel.lost = h.w.chance(h.w.faults.criu / 2) // of one container
		h.set(TasksHeld)
		h.hook()
	})
}

// hook: the script that waits may be killed, and CRIU then fails the restore.
func (h *host) hook() {
	if !h.w.chance(h.w.faults.criu) {
		return
	}
	work, boot := h.kernel.work, h.boot
	h.w.after(h.w.between(1, 100), func() {
		if h.up && h.boot == boot && h.kernel.work == work && h.kernel.tasks == TasksHeld {
			h.w.logf("%s: the hook is killed", h.name)
			h.set(NoTasks)
		}
	})
}

// release lets CRIU go on. That tasks may have run is made durable before any does.
func (h *host) release(migration string) {
	if h.kernel.busy {
		return
	}
	h.criu(h.w.between(1, 10), func() {
		if h.w.chance(h.w.faults.criu) {
			h.w.logf("%s: CRIU fails after its hook", h.name)
			h.set(NoTasks)
			return
		}
		h.onDisk.ran = migration
		if !h.w.unshared {
			h.w.truth.marked[migration] = true
		}
		h.criu(h.w.between(0, 2), func() {
			if h.w.chance(h.w.faults.criu) {
				h.set(NoTasks)
				return
			}
			h.set(TasksRunning)
			if h.w.chance(h.w.faults.criu / 2) {
				h.w.logf("%s: one container runs, and CRIU fails with another", h.name)
				h.w.write(h)
				h.kernel.lost = true
				return
			}
			if h.kernel.lazy {
				h.pages()
			}
		})
	})
}

// pages brings the rest of a post-copied pod's memory, while the source holds it.
func (h *host) pages() {
	im, boot := h.kernel.image, h.boot
	if h.w.chance(h.w.faults.criu) {
		h.kernel.lost = true
		return
	}
	h.w.after(h.w.between(20, 300), func() {
		if !h.up || h.boot != boot || h.kernel.image != im || !h.kernel.lazy {
			return
		}
		if im.source.up && im.source.boot == im.boot && im.source.kernel.tasks == TasksFrozen && !h.w.severed(h.agent.proc, im.source.agent.proc) {
			h.kernel.lazy, im.pages = false, true
			return
		}
		h.pages()
	})
}

// kill ends every task, and CRIU with them.
func (h *host) kill() {
	h.w.killing(h)
	h.kernel.work++
	h.kernel.busy, h.kernel.lazy, h.kernel.lost, h.kernel.image = false, false, false, nil
	h.set(NoTasks)
}

// Command probe tells, from inside a container, what it is allowed to do. It prints one JSON object.
package main

import (
	"encoding/json"
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"
)

func main() {
	host, _ := os.Hostname()
	groups, _ := os.Getgroups()
	report := map[string]any{
		"pid": os.Getpid(), "hostname": host, "env": os.Environ(), "uid": os.Getuid(), "gid": os.Getgid(),
		"groups": groups, "dev": names("/dev"), "firmware": names("/sys/firmware"),
		"status": status(), "mounts": mounts(), "hosts": content("/etc/hosts"), "volume": content("/data/file"),
	}
	report["calls"] = calls() // last, as it drops all rights
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		os.Exit(1)
	}
}

func names(dir string) []string {
	list := []string{}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func content(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// status is the part of /proc/self/status that the kernel enforces.
func status() map[string]string {
	found := map[string]string{}
	for _, line := range strings.Split(content("/proc/self/status"), "\n") {
		key, value, _ := strings.Cut(line, ":")
		if strings.HasPrefix(key, "Cap") || key == "NoNewPrivs" || key == "Seccomp" {
			found[key] = strings.TrimSpace(value)
		}
	}
	return found
}

func mounts() []string {
	list := []string{}
	for _, line := range strings.Split(strings.TrimSpace(content("/proc/self/mounts")), "\n") {
		fields := strings.Fields(line)
		list = append(list, fields[2]+" "+fields[1])
	}
	return list
}

// calls has the error of every call, or "ok".
func calls() map[string]string {
	tmp, _ := syscall.BytePtrFromString("/tmp/x")
	fifo, _ := syscall.BytePtrFromString("/tmp/fifo")
	device := uintptr(1<<8 | 3)
	empty := make([]byte, 256)
	at := uintptr(unsafe.Pointer(&empty[0]))
	path := uintptr(unsafe.Pointer(tmp))
	cwd := -100
	results := map[string]string{}
	for name, c := range map[string][4]uintptr{
		"reboot":          {169, 0xfee1dead, 672274793, 0},
		"mount":           {165, path, path, path},
		"umount2":         {166, path, 0, 0},
		"mknod device":    {133, path, syscall.S_IFCHR | 0o600, device},
		"mknodat device":  {259, uintptr(cwd), path, syscall.S_IFBLK | 0o600},
		"mknod fifo":      {133, uintptr(unsafe.Pointer(fifo)), syscall.S_IFIFO | 0o600, 0},
		"io_uring_setup":  {425, 8, at, 0},
		"io_uring_enter":  {426, 0, 0, 0},
		"setns":           {308, 0, 0, 0},
		"unshare net":     {272, syscall.CLONE_NEWNET, 0, 0},
		"unshare user":    {272, syscall.CLONE_NEWUSER, 0, 0},
		"unshare files":   {272, syscall.CLONE_FILES, 0, 0},
		"clone3":          {435, at, 64, 0},
		"clone newuser":   {56, syscall.CLONE_NEWUSER | 17, 0, 0},
		"pivot_root":      {155, path, path, 0},
		"swapon":          {167, path, 0, 0},
		"kexec_load":      {246, 0, 0, 0},
		"init_module":     {175, at, 0, path},
		"settimeofday":    {164, at, 0, 0},
		"clock_settime":   {227, 0, at, 0},
		"adjtimex":        {159, at, 0, 0},
		"bpf":             {321, 0, at, 128},
		"perf_event_open": {298, at, 0, 0},
		"userfaultfd":     {323, 0, 0, 0},
		"keyctl":          {250, 0, 0, 0},
		"iopl":            {172, 3, 0, 0},
		"ptrace":          {101, 0, 0, 0},
		"mq_open":         {240, path, syscall.O_CREAT, 0o600},
		"pkey_alloc":      {330, 0, 0, 0},
		"landlock":        {444, 0, 0, 1},
		"memfd_secret":    {447, 0, 0, 0},
		"sethostname":     {170, path, 1, 0},
		"chroot":          {161, path, 0, 0},
		"socket inet":     {41, syscall.AF_INET, syscall.SOCK_STREAM, 0},
		"socket netlink":  {41, syscall.AF_NETLINK, syscall.SOCK_RAW, 0},
		"socket vsock":    {41, 40, syscall.SOCK_STREAM, 0},
		"socket alg":      {41, 38, syscall.SOCK_SEQPACKET, 0},
		"socket packet":   {41, syscall.AF_PACKET, syscall.SOCK_RAW, 0},
	} {
		_, _, errno := syscall.RawSyscall(c[0], c[1], c[2], c[3])
		results[name] = errname(errno)
	}
	write("/proc/sys/kernel/core_pattern", results)
	write("/sys/kernel/mm/transparent_hugepage/enabled", results)
	write("/etc/hosts", results)
	write("/dev/null", results)
	// What an image does that starts as root and drops to a user of its own.
	// In this thread alone: the runtime's own calls insist on all threads being of one mind.
	runtime.LockOSThread()
	groups := []uint32{998}
	for _, c := range []struct {
		name string
		args [4]uintptr
	}{
		{"chown", [4]uintptr{syscall.SYS_CHOWN, uintptr(unsafe.Pointer(fifo)), 999, 998}},
		{"setgroups", [4]uintptr{syscall.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(&groups[0]))}},
		{"setgid", [4]uintptr{syscall.SYS_SETGID, 998}},
		{"setuid", [4]uintptr{syscall.SYS_SETUID, 999}},
	} {
		_, _, errno := syscall.RawSyscall(c.args[0], c.args[1], c.args[2], c.args[3])
		results[c.name] = errname(errno)
	}
	return results
}

func write(path string, results map[string]string) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		results["write "+path] = errname(err.(*os.PathError).Err.(syscall.Errno))
		return
	}
	f.Close()
	results["write "+path] = "ok"
}

func errname(e syscall.Errno) string {
	known := map[syscall.Errno]string{
		0:             "ok",
		syscall.EPERM: "EPERM", syscall.ENOSYS: "ENOSYS", syscall.EROFS: "EROFS", syscall.EACCES: "EACCES",
		syscall.EINVAL: "EINVAL", syscall.ENOENT: "ENOENT", syscall.EFAULT: "EFAULT",
	}
	if name, ok := known[e]; ok {
		return name
	}
	return e.Error()
}

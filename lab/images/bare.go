package images

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
)

// bareScript gives a service the few mounts it cannot do without, and becomes it. They are seen by nobody else and go with it.
const bareScript = `
root=$1 user=$2 dir=$3
shift 3
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t proc proc "$root/proc"
exec chroot --userspec="$user" "$root" /usr/bin/env -C "$dir" "$@"
`

// Bare unpacks the named image into an empty directory and returns a command that runs its service there, with PIDs, IPC
// and mounts of its own but without any container around it. Arguments, if there are any, replace the image's own. The
// command is the caller's to start, in any network namespace; killing it kills every process of the service.
func (s Set) Bare(ctx context.Context, image, root string, args ...string) (*exec.Cmd, error) {
	config, err := s.Unpack(ctx, image, root)
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		args = config.Cmd
	}
	user := config.User
	if user == "" {
		user = "root"
	}
	dir := config.WorkingDir
	if dir == "" {
		dir = "/"
	}
	service := append([]string{"-eu", "-c", bareScript, "bare", root, user, dir}, config.Entrypoint...)
	cmd := exec.CommandContext(ctx, "sh", append(service, args...)...)
	cmd.Env = config.Env
	if cmd.Err != nil {
		return nil, fmt.Errorf("images: run %s: %w", image, cmd.Err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: syscall.CLONE_NEWNS,
		Cloneflags:   syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	return cmd, nil
}

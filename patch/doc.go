// Package patch is a host's side of patching: it turns a policy into an exact list of package versions, brings their files here,
// installs exactly those, keeps everything else from rebooting the host meanwhile, reboots it, and looks whether it is fit
// afterwards.
//
// What it promises:
//   - Nothing is installed whose file does not have the SHA-256 that verified, fresh metadata has for it, and nothing is removed.
//   - Work on packages runs in a session of its own, which outlives the program that started it. Whatever is killed at whatever
//     moment, the same call made again finds it, follows it, or repairs what it left and goes on.
//   - The host is not rebooted while it holds a pod, or while packages are worked on.
//   - What is refused says why, and what would remove the reason.
//
// A package manager is an Installer; apt and dnf lie below.
package patch

package patch

import (
	"context"

	drydockv1 "drydock/api/drydock/v1"
)

// Installer is a package manager that patches the host that it is on. What an operator can mend comes back as *Refused.
type Installer interface {
	// Name is that of the package manager, as in PackageStatus.
	Name() string
	// Remedies are what an operator runs on the host where Drydock does not.
	Remedies() Remedies
	// Resolve finds out what installing updates would install, by the package manager's own simulation. known are all updates
	// that the host's status lists, verified. It changes nothing.
	Resolve(ctx context.Context, wanted, known []*drydockv1.PackageUpdate) (*Resolution, error)
	// Files are the paths that the packages of a patch have on the host now.
	Files(ctx context.Context, patch *drydockv1.Patch) ([]string, error)
	// Archives is the directory that package files are downloaded to, where that is another than the one that they are kept in.
	Archives(ctx context.Context) (string, error)
	// Download brings every package file of a patch into dir, each with the SHA-256 that the patch has for it. What is there
	// already is not fetched again.
	Download(ctx context.Context, patch *drydockv1.Patch, dir string, tell Tell) error
	// Install installs exactly the versions of a patch from the files that Download brought, and first repairs what an
	// installation that was interrupted left. It must be safe to call again, whatever was killed.
	Install(ctx context.Context, work Work) error
	// Lacking says what of a patch is not installed at exactly its version, and what else is not installed to its end.
	Lacking(ctx context.Context, patch *drydockv1.Patch) ([]*drydockv1.Refusal, error)
	// Snapshot is the state of all packages, one on a line.
	Snapshot(ctx context.Context) ([]byte, error)
}

// Remedies are commands of a package manager, in words that follow a semicolon.
type Remedies struct {
	// Unhold gives a package free that the host's administrator holds at its version.
	Unhold func(name string) string
	// Clean empties the package manager's cache, OldKernels removes kernels that are not needed any more.
	Clean, OldKernels string
}

// Tell is told how far something is, 0 to 100, and what is being done in a few words.
type Tell func(percent int32, activity string)

// Resolution is what an Installer finds that a patch would be.
type Resolution struct {
	Packages []*drydockv1.PinnedPackage
	Refusals []*drydockv1.Refusal
	// Kernels are those that it brings, Newest is the newest of all that are installed then; nil where there is none.
	Kernels []*drydockv1.Kernel
	Newest  *drydockv1.Kernel
	// Core are the packages in it that only a boot replaces everywhere.
	Core []string
	// DiskBytes is how much more room the packages take once they are installed, at their installation's worst moment.
	DiskBytes int64
}

// Work is one installation.
type Work struct {
	Patch *drydockv1.Patch
	// Files is where Download brought them.
	Files string
	// Conffiles is Keep or Replace.
	Conffiles string
	// Dir is the installation's own: what the package manager says is appended to its Log.
	Dir, Log string
	// Before is the Snapshot that was made before it was first begun.
	Before []byte
	Tell   Tell
}

// What becomes of configuration files that were changed on the host.
const (
	Keep    = "keep"
	Replace = "replace"
)

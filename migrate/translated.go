package migrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/migrate/transfer"
	"drydock/migrate/translate"
)

// A pod that comes from a newer kernel is translated at the destination, where all of its images lie, once they were compared with
// what was sent and before CRIU reads any of them. Pairs of kernels that need no rule have nothing of this in their freeze.

const (
	// rulesMark has the names of the rules that this kernel and the source's may need; there is none where they need none.
	rulesMark = "rules"
	// translatedMark lists the images that were, or are just being, changed: they are not what was sent any more.
	translatedMark = "translated"
)

// rewrites is why a pod's memory has to be among the images between two kernels, or empty.
func rewrites(from, to string) string {
	for _, r := range translate.Between(from, to) {
		if r.Memory {
			return fmt.Sprintf("from kernel %s to %s memory is changed on the way (rule %s), and in post-copy it comes afterwards", from, to, r.Name)
		}
	}
	return ""
}

// noteRules keeps, for every restore of a migration, also by a later agent, which rules are to be asked.
func (e *Engine) noteRules(ctx context.Context, migration, from string) error {
	info, err := e.Inspect(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, r := range translate.Between(from, info.Kernel) {
		names = append(names, r.Name)
	}
	if len(names) == 0 {
		return nil
	}
	return os.WriteFile(filepath.Join(e.dir(migration), rulesMark), []byte(strings.Join(names, "\n")), 0o600)
}

// translate has every rule that was noted change the pod's images, and tells the source which of them did.
func (e *Engine) translate(j owner.Journal, spec *drydockv1.PodSpec) error {
	names, err := readLines(filepath.Join(e.dir(j.Migration), rulesMark))
	if err != nil || len(names) == 0 {
		return err
	}
	var used []string
	for _, r := range translate.Rules() {
		if !slices.Contains(names, r.Name) {
			continue
		}
		for _, c := range spec.Containers {
			edits, err := r.Find(e.restoreFrom(j.Migration, c.Name).Images)
			if err == nil {
				err = e.edit(j.Migration, edits)
			}
			if err != nil {
				return fmt.Errorf("translate container %s of pod %s: %w", c.Name, j.Pod, err)
			}
			if len(edits) > 0 && !slices.Contains(used, r.Name) {
				used = append(used, r.Name)
			}
		}
	}
	if len(used) > 0 {
		e.Log.Info("checkpoint translated", "pod", j.Pod, "migration", j.Migration, "rules", used)
		e.place(j.Pod).tell(eventTranslated + " " + strings.Join(used, " "))
	}
	return nil
}

// edit changes images, once it is noted which.
func (e *Engine) edit(migration string, edits []translate.Edit) error {
	if len(edits) == 0 {
		return nil
	}
	mark := filepath.Join(e.dir(migration), translatedMark)
	changed, err := readLines(mark)
	if err != nil {
		return err
	}
	root, err := filepath.EvalSymlinks(filepath.Join(e.dir(migration), "images"))
	if err != nil {
		return err
	}
	for _, edit := range edits {
		path, err := filepath.EvalSymlinks(edit.Path) // an earlier round of pre-copy is behind a link
		if err != nil {
			return err
		}
		if path, err = filepath.Rel(root, path); err != nil {
			return err
		}
		changed = append(changed, path)
	}
	slices.Sort(changed)
	if err := os.WriteFile(mark, []byte(strings.Join(slices.Compact(changed), "\n")), 0o600); err != nil {
		return err
	}
	for _, edit := range edits {
		if err := edit.Apply(); err != nil {
			return err
		}
	}
	return nil
}

// withoutTranslated leaves those images out that were changed here.
func (e *Engine) withoutTranslated(migration string, sums map[string]transfer.Sums) error {
	changed, err := readLines(filepath.Join(e.dir(migration), translatedMark))
	for _, name := range changed {
		delete(sums, name)
	}
	return err
}

// readLines are a file's; none where there is no file.
func readLines(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return strings.Fields(string(data)), err
}

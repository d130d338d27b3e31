package migrate

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// restoring starts the restore of a pod of two containers, and returns when both wait.
func restoring(t *testing.T) (hooks, []<-chan error) {
	t.Helper()
	pod := hooks{makeHook(t), makeHook(t)}
	var ended []<-chan error
	for _, h := range pod {
		ended = append(ended, criu(t, h, "post-restore"))
		eventually(t, "CRIU waits", h.waiting)
	}
	return pod, ended
}

func TestAContainerIsNotLetGoWhereAnotherOfItsPodCannotBe(t *testing.T) {
	pod, ended := restoring(t)
	broken := pod[1].fifo()
	if err := unix.Rename(broken, broken+".aside"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(broken, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := pod.release(t.Context(), func() {}); err == nil {
		t.Fatal("a hook that cannot be reached was released")
	}
	select {
	case err := <-ended[0]:
		t.Fatalf("the first container was let go: %v", err)
	default:
	}
	if !pod.held() || !pod.neverRan() {
		t.Errorf("held %t, never ran %t", pod.held(), pod.neverRan())
	}
	// What was in the way goes, and the pod is released as a whole.
	if err := unix.Rmdir(broken); err != nil {
		t.Fatal(err)
	}
	if err := unix.Rename(broken+".aside", broken); err != nil {
		t.Fatal(err)
	}
	if err := pod.release(t.Context(), func() {}); err != nil {
		t.Fatal(err)
	}
	for _, end := range ended {
		if err := <-end; err != nil {
			t.Errorf("CRIU was not told to go on: %v", err)
		}
	}
}

func TestNoContainerIsLetGoWhereTheCRIUOfAnotherHasDied(t *testing.T) {
	pod, ended := restoring(t)
	if err := unix.Kill(pod[1].pids()[1], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-ended[1]
	if err := pod.release(t.Context(), func() { t.Error("a container was told to go on") }); err == nil {
		t.Error("a pod that is half there was released")
	}
	if !pod[0].waiting() || !pod.neverRan() {
		t.Errorf("the first waits: %t, never ran: %t", pod[0].waiting(), pod.neverRan())
	}
	// A refusal ends all of it, also the script that waits without its CRIU.
	if !pod[1].asking() {
		t.Error("the script ended with its CRIU: this test shows nothing")
	}
	for _, h := range pod {
		if err := h.answer(t.Context(), false); err != nil {
			t.Error(err)
		}
		eventually(t, "the script ends", func() bool { return !h.asking() })
	}
}

func TestAPodThatIsHalfReleasedIsReleasedWholeWhenAskedAgain(t *testing.T) {
	pod, ended := restoring(t)
	// An agent is killed when it has told the first.
	if err := pod[:1].release(t.Context(), func() {}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended[0]; err != nil {
		t.Fatal(err)
	}
	for _, stage := range []string{"pre-resume", "post-resume"} {
		if err := <-criu(t, pod[0], stage); err != nil {
			t.Fatal(err)
		}
	}
	if pod.held() || pod.letGo() || pod.neverRan() {
		t.Errorf("held %t, let go %t, never ran %t", pod.held(), pod.letGo(), pod.neverRan())
	}
	if err := pod.release(t.Context(), func() {}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended[1]; err != nil {
		t.Errorf("the second container was not let go: %v", err)
	}
	if err := <-criu(t, pod[1], "post-resume"); err != nil || !pod.letGo() || pod.held() {
		t.Errorf("%v: let go %t, held %t", err, pod.letGo(), pod.held())
	}
}

func TestAPodWithoutHooksIsNeitherHeldNorLetGo(t *testing.T) {
	if none := hooks(nil); none.held() || none.letGo() || none.neverRan() {
		t.Error("a pod without hooks waits, or was let go")
	}
}

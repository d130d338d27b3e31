package pods

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
)

func TestACommandThatHasNotBegunLeavesItsInputToTheNextTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := strings.NewReader("all of it")
		attempt := func() *input {
			return &input{Reader: source, begun: make(chan struct{}), dropped: make(chan struct{}), ended: make(chan struct{})}
		}
		read := func(from *input) <-chan string {
			got := make(chan string, 1)
			go func() {
				data, err := io.ReadAll(from)
				if err != nil {
					t.Error(err)
				}
				got <- string(data)
			}()
			return got
		}
		first, second := attempt(), attempt()
		nothing, everything := read(first), read(second)
		synctest.Wait()
		if len(nothing)+len(everything) != 0 || source.Len() != len("all of it") {
			t.Fatal("input was read before a command ran")
		}
		close(first.dropped)
		close(second.begun)
		if got := <-nothing; got != "" {
			t.Errorf("the command that did not run has read %q", got)
		}
		if got := <-everything; got != "all of it" {
			t.Errorf("the command that runs has read %q", got)
		}
		<-second.ended
	})
}

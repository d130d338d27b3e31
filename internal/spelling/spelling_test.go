package spelling

import "testing"

func TestDistanceCountsTheFewestChanges(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"host", "hosts", 1}, {"flaw", "lawn", 2}, {"same", "same", 0}} {
		if got := Distance(tt.a, tt.b); got != tt.want {
			t.Errorf("%q, %q: %d, want %d", tt.a, tt.b, got, tt.want)
		}
		if Distance(tt.a, tt.b) != Distance(tt.b, tt.a) {
			t.Errorf("%q, %q: not the same the other way round", tt.a, tt.b)
		}
	}
}

func TestTheNearestWordIsTheOneThatWasMeant(t *testing.T) {
	if got := Nearest("widnow", []string{"hosts", "windows", "name"}); got != "windows" {
		t.Error(got)
	}
}

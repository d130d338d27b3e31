package migrate

import (
	"strings"
	"testing"

	"drydock/internal/version"
)

func TestAHostThatSpeaksAnotherVersionIsRefusedByNameWithARemedy(t *testing.T) {
	if reasons := speaks("h2", version.API+1); len(reasons) != 0 {
		t.Errorf("one apart: %v", reasons)
	}
	reasons := speaks("h2", version.API+2)
	if len(reasons) != 1 || !strings.Contains(reasons[0].Reason, "h2") || !strings.Contains(reasons[0].Remedy, "upgrade this program") {
		t.Errorf("two apart: %v", reasons)
	}
}

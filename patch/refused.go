package patch

import (
	"fmt"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
)

// Refused is the error of what was not done, or not to its end, for reasons that somebody can remove.
type Refused struct{ Reasons []*drydockv1.Refusal }

func (r *Refused) Error() string {
	words := make([]string, 0, len(r.Reasons))
	for _, reason := range r.Reasons {
		words = append(words, reason.Reason+"; "+reason.Remedy)
	}
	return strings.Join(words, "\n")
}

// Refuse makes the error of one reason.
func Refuse(remedy, format string, args ...any) *Refused {
	return &Refused{Reasons: []*drydockv1.Refusal{Refusal(remedy, format, args...)}}
}

// Refusal makes one reason.
func Refusal(remedy, format string, args ...any) *drydockv1.Refusal {
	return &drydockv1.Refusal{Reason: fmt.Sprintf(format, args...), Remedy: remedy}
}

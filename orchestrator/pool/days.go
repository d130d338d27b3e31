package pool

import (
	"fmt"
	"slices"
	"strings"
)

// dayNames are in the order of time.Weekday.
var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// parseDays reads names and ranges of days; a range may pass the end of the week, as in sat-mon.
func parseDays(texts []string) (days [7]bool, err error) {
	for _, text := range texts {
		first, last, ranged := strings.Cut(text, "-")
		if !ranged {
			last = first
		}
		from, to := slices.Index(dayNames, first), slices.Index(dayNames, last)
		if from < 0 || to < 0 {
			return days, fmt.Errorf("%q is no day", text)
		}
		for day := from; ; day = (day + 1) % 7 {
			days[day] = true
			if day == to {
				break
			}
		}
	}
	return days, nil
}

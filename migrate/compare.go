package migrate

import (
	"os"
	"slices"
	"strconv"
	"strings"
)

// older compares dotted versions number by number, as far as both have numbers: 6.12.94 is older than 6.18.
func older(a, b string) bool {
	x, y := numbers(a), numbers(b)
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return false
}

func numbers(version string) []int {
	var result []int
	for _, field := range strings.FieldsFunc(version, func(r rune) bool { return r == '.' || r == '-' || r == '+' }) {
		n, err := strconv.Atoi(field)
		if err != nil {
			break
		}
		result = append(result, n)
	}
	return result
}

// missingFeatures lists the processor features that are in want and not in have.
func missingFeatures(want, have []string) []string {
	var missing []string
	for _, feature := range want {
		if !slices.Contains(have, feature) {
			missing = append(missing, feature)
		}
	}
	return missing
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

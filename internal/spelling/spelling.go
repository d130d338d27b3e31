// Package spelling finds the known word that was probably meant.
package spelling

import "slices"

// Nearest is the candidate that the fewest changes turn word into. There must be one candidate at least.
func Nearest(word string, candidates []string) string {
	return slices.MinFunc(candidates, func(a, b string) int { return Distance(word, a) - Distance(word, b) })
}

// Distance is Levenshtein's, in bytes.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

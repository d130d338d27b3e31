// Package rules makes a message.Translator of what an operator writes in YAML: which calls a rule fits, and what it does to
// the request and to its reply. Conditions are CEL, reshaping is jq.
//
// What it promises: a call is translated by exactly one rule, refused with a reason, or passed where the translator says so;
// it is never guessed. Rules that two calls could be read by, and rules that no call can reach, are found before use
// (Problem). A translation that cannot be exact - a name that is taken, a number with too many digits, a value that a map
// does not list - is a *message.Refusal. Conditions and jq are bounded in time.
package rules

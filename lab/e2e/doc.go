// Package e2e holds a lab of three hosts to what the command line's documentation says: every test types commands as an
// operator does, and looks at what they answered and at what is there afterwards. It has tests only, and they need root.
package e2e

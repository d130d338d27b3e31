// Package repository makes signed package archives as apt reads them, and newer builds of real Debian packages to offer in
// them: what a lab's hosts lack on a day on which the mirror has nothing for them, and what tests of patching break.
package repository

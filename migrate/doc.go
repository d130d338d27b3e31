// Package migrate moves one pod from one host to another: the steps of a migration, its transfer, its decision and its
// rollback.
package migrate

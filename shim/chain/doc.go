// Package chain takes calls across any number of versions of a service, through translators between neighbours only.
//
// A chain is planned whole before it is used, as a list of steps from the client's version to the server's: an unknown version
// and a missing translator are errors of planning, never of a call. Requests go through the steps in order, answers back
// through the same steps; a body is read at most once and written at most once, however long the chain. What cannot be honoured
// is a *message.Refusal that names service and neighbours, and every call is counted as passed, translated, disallowed or
// untranslatable.
package chain

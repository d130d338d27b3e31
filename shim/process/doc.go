// Package process runs a shim: one process with one configuration file in front of one service's server.
//
// What it promises: SIGHUP or a reload on its control socket takes up a changed configuration or record; where something is
// wrong with it, all of it is refused and the old one stays. A shim that is started where one runs already (same control
// socket) takes its listening sockets over: no connection is refused and none is cut, the old process serves those that it has
// until their clients end them, and then ends. Whatever fails before the new process is ready leaves the old one as it was.
//
// The control socket speaks HTTP with JSON, and Prometheus' format at /metrics. Its permissions are the guard.
package process

// Package flow runs packets through a graph of operators that can be changed while it runs, after Ertel and Felber, "A
// Framework for the Dynamic Evolution of Highly-Available Dataflow Programs" (Middleware 2014).
//
// A Graph is nodes joined by FIFO arcs, from one entry to one exit. A Flow runs it in lanes, one for each connection: a lane
// has its own operators and arcs, so that a slow one delays no other. An operator gets one packet at a time and sends it on by
// one of its ports, so that packets are neither lost nor doubled; the exit gives them out in the order of their entry.
//
// Update changes the graph: edits that belong together are one change. First everything that can fail is done - the new graph
// is validated, new operators are made for every lane - and where it fails the old graph goes on untouched. Then a marker
// goes into each lane, behind the last packet that the old graph gets. An operator that has had the marker on all its arcs
// sends it on by all its old ports, and then changes: so each packet meets one version of the graph only, and nobody
// waits for anybody who is not before him. At a join, packets behind the marker wait until the marker has come on every arc.
// Changes are ordered: each lane makes them in the order in which Update took them.
package flow

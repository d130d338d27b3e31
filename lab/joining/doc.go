// Package joining holds the tests of what hosts find out of the network between them when they join, in labs whose switch
// knows one MAC of each host, as many clouds and switches do.
package joining

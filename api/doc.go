// Package api holds what the parts of Drydock say to each other: protobuf definitions and the Connect code generated from
// them. drydock/v1 is one version of it; fields are only ever added, so that peers one version apart understand each other.
package api

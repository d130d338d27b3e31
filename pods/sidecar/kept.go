package sidecar

// Kept is the directory in the volume of what a shim keeps for clients because the server cannot store it.
const Kept = stateDir

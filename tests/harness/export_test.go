package harness

// GroupPrefix and Sweep are for the tests.
const GroupPrefix = groupPrefix

// Sweep removes the groups of dead processes.
var Sweep = sweep

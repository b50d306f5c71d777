// Package function assembles the Function Compute function: it reads the settings,
// connects the ports of package handler and its use cases to DBS and MNS, and hands
// invocations to it.
//
// dbs.go and dbs_lists.go call DBS over net/http, signed by acs3.go: the generic OpenAPI
// client takes 40 % of an event's CPU time, panics, races and loses answers. A test holds
// the signature equal to that client's. mns.go lets the MNS SDK make requests and read
// answers, over a client of our own, which says why. classify.go says what a failure
// means. Both adapters sign each request with the credential of its invocation, share
// nothing but connections, and make one attempt for each call: whether to try again is
// the handler's decision.
package function

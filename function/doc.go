// Package function assembles the Function Compute function: it reads the
// settings, connects the ports of package handler to DBS and MNS, and hands
// invocations to it.
//
// dbs.go and dbs_lists.go call DBS over net/http, signed by acs3.go, since the
// generic OpenAPI client takes 40 % of an event's CPU time, panics, races and loses
// answers; a test holds the signature equal to that client's. mns.go lets the
// MNS SDK's queue make the requests and read the answers, over a client of our own,
// since the SDK's own client knows no context, repeats requests on its own and loses
// the errors. classify.go says what a failure means, by a table for each service.
//
// Both adapters sign each request with the credentials of the invocation that it
// belongs to, share nothing but connections, and make one attempt for each call:
// whether to try again is the handler's decision.
package function

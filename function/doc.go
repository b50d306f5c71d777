// Package function assembles the Function Compute function: it reads the
// settings, connects the ports of package handler to DBS and MNS, and hands
// invocations to it.
//
// One file adapts one vendor SDK, and classifies its errors: dbs.go the generic
// OpenAPI client; mns.go the MNS SDK's queue, which makes the requests and reads the
// answers, over a client of our own, since the SDK's own client knows no context,
// repeats requests by itself and loses the errors. Both sign each request with the
// credentials of the invocation it belongs to, share nothing but connections, and
// make one attempt for each call: whether to try again is the handler's decision.
package function

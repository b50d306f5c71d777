// Package function assembles the Function Compute function: it reads the
// settings, connects the ports of package handler to DBS and MNS, and hands
// invocations to it.
//
// One file adapts one vendor SDK, and classifies its errors: dbs.go the generic
// OpenAPI client, mns.go the MNS client. Both sign each request with the
// credentials of the invocation it belongs to, share nothing but connections, and
// make one attempt for each call: whether to try again is the handler's decision.
package function

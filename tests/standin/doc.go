// Package standin holds what the stand-ins for Function Compute, DBS and MNS have
// in common: a server on loopback that counts its connections, faults that can be
// switched on, the test credentials, and the RAM policy that they enforce.
//
// The stand-ins are servers that real clients accept: they verify signatures,
// dates, parameters and limits, and answer with the services' own codes. Each is
// a package of its own, which says what it does not speak: dbs, mns, fcruntime and
// trigger. What is not documented about a service is an option, or the reading that
// is hardest for a client.
package standin

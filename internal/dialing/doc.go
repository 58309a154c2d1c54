// Package dialing is what packages client and hooks have in common when they dial.
//
// They turn international host names into the form that DNS, TLS and proxies know: "bücher.example"
// is "xn--bcher-kva.example" there (RFC 5890, section 2.3.2.1; the mapping is that of UTS #46, as
// browsers have it).
//
// And they begin nothing with a context that is done.
package dialing

// Package interop tests Whorl against real servers, which the tests start and end themselves:
//
//	go test -tags interop ./interop
//
// .ci/run installs the servers. Most want root. Where one is missing the tests fail: whoever sets
// the tag wants to know.
package interop

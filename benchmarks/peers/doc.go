// Package peers measures Whorl beside the libraries that do the same work. It is a module of its own, so that Whorl's users don't get those
// libraries with it.
//
//	cd benchmarks/peers && go test -bench . -count 6
package peers

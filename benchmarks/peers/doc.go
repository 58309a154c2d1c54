// Package peers measures Whorl beside the libraries that do the same work. It is a module of its own, so that Whorl's users don't get those
// libraries with it.
//
//	cd benchmarks/peers
//	go run ./cmd/compare -tls -what echo,idle   # servers: CPU time per message, memory of an idle connection
//	go test -bench . -count 6                   # the poller
package peers

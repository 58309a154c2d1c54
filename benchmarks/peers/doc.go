// Package peers measures Whorl beside the libraries that do the same work. It is a module of its
// own, so that Whorl's users don't get those libraries with it.
//
//	make -C benchmarks compare                  # everything, into RESULTS.md
//	go run ./cmd/compare -tls -what echo,idle   # servers: CPU time, memory of an idle connection
//	go run ./cmd/compare -tls -what client      # clients: round trips, packets, handshakes, bulk
//	go test -bench . -count 6                   # the poller
//
// To add a server, see package echo; a client, package clients. The load generator, what clients
// talk to, and what reports are made of are those of whorl bench, in internal/bench.
package peers

// Package stress has a test only, of random operations on everything at once: sockets, clients,
// servers and what coroutines wait for each other with, used from coroutines of several loops, from
// functions of the loops and from plain goroutines.
//
//	go test -race ./internal/stress -for 10m -cpu 1,2,4
package stress

// Package chaos has a test of a whole cluster: three nodes and three NATS servers, each a process
// of its own, of which some are killed, stopped and cut off, while many clients join, leave and
// speak. What is shown is in chaos_test.go.
//
//	go test ./chaos                                              some 20 seconds
//	WHORL_CHAOS=5m WHORL_CHAOS_CLIENTS=6000 go test -timeout 30m -v ./chaos
package chaos

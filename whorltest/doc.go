// Package whorltest tests stream transports: whatever a net.Conn is made of, be it a socket, TLS, a tunnel or memory, [TestStream] holds it to what package net
// documents, and to what programs rely on all the same.
//
//	func TestTransport(t *testing.T) {
//		whorltest.TestStream(t, func() (a, b net.Conn, stop func(), err error) { … })
//	}
//
// Whorl's own transports pass it, from goroutines and from coroutines, and so does package net's TCP. It goes beyond golang.org/x/net/nettest in how streams end
// (half-closes, truncation, closing behind a large write or under those who wait), in deadlines that are moved while somebody waits, in what time-outs leave behind, in
// back-pressure, and in writes of many at once, which must not be mixed.
//
// Run it with the race detector. It has a time-out of its own for whatever waits, so a transport that hangs is told what hung.
package whorltest

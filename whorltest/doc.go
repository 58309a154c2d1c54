// Package whorltest tests stream transports: whatever a net.Conn is made of, be it a socket, TLS, a
// tunnel or memory, [TestStream] holds it to what package net documents, and to what programs rely
// on all the same.
//
//	func TestTransport(t *testing.T) {
//		makePair := func() (a, b net.Conn, stop func(), err error) { … }
//		nettest.TestConn(t, makePair)
//		whorltest.TestStream(t, makePair, nil)
//	}
//
// It has what nettest.TestConn of golang.org/x/net doesn't, which comes first: how streams end
// (half-closes, truncation, closing behind a large write or under those who wait), deadlines that
// are moved while somebody waits, what time-outs leave behind, back-pressure, writes of many at
// once, which must not be mixed, and all of that in coroutines. Whorl's own transports pass it, and
// so does package net's TCP.
//
// Run it with the race detector. It has a time-out of its own for whatever waits, so a transport
// that hangs is told what hung.
package whorltest

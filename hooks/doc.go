// Package hooks lets code that speaks net.Conn run on Whorl's event loops, unchanged: net/http,
// net/smtp, database drivers, whatever takes a dialer or a listener.
//
//	transport := &http.Transport{DialContext: new(hooks.Dialer).DialContext}
//	…
//	l, err := hooks.Listen(ctx, "tcp", ":8080")
//	…
//	err = http.Serve(l, handler)
//
// A [Conn] works from coroutines, which yield to their loop while they wait, and from plain
// goroutines, which are parked. There is nothing to choose: each call looks who is calling. Reading
// and writing take no context, so they are bounded by the deadlines, by Close, and by the end of
// the runtime.
//
// # What there is
//
//	net                                    here
//	Dialer                                 [Dialer]: Timeout, Deadline, LocalAddr, KeepAlive, KeepAliveConfig, Control, ControlContext
//	ListenConfig, Listen, ListenPacket     [ListenConfig], [Listen], [ListenPacket], which take a context
//	TCPConn, UnixConn                      [Conn], of "tcp", "tcp4", "tcp6", "unix" and "unixpacket"
//	  deadlines, concurrent use            as package net has them
//	  CloseRead, CloseWrite                yes; with TLS, CloseWrite says close_notify
//	  ReadFrom                             sendfile(2) from regular files, else by way of a buffer
//	  WriteTo                              by way of a buffer; no splice(2)
//	  SyscallConn, File                    yes
//	  SetNoDelay, SetKeepAlive…, SetLinger, SetReadBuffer, SetWriteBuffer    yes
//	TCPListener, UnixListener              [Listener], with SetDeadline, SetUnlinkOnClose, SyscallConn, File
//	UDPConn, UnixConn of "unixgram"        [PacketConn], dialled or not; no ReadMsgUDP and its kin, no multicast groups
//	Pipe                                   [Pipe], with a buffer and half-closes
//	Dialer.Resolver                        [Dialer.Resolver], anything that looks names up; *net.Resolver is one
//	Resolver                               net.Resolver with [Dialer.DialContext]; in coroutines by runtime.Await
//	–                                      [Conn.EnableSSL]: the live connection becomes TLS
//	MPTCP, FallbackDelay, "ip" networks    no
//
// [Enable] makes http.DefaultTransport and net.DefaultResolver dial here.
//
// # In a coroutine
//
// A library that only reads and writes the connection can be called as it is: net/smtp, a protocol
// of one's own, crypto/tls. One that waits in ways of its own would stop the loop with all its
// coroutines: net/http's client waits on Go channels for its goroutines, http.Server.Close on a
// sync.WaitGroup, database/sql on a mutex. Call these by runtime.Await, or from goroutines. Where
// that was forgotten, the watchdog reports the loop that doesn't turn, with the stack of what holds
// it.
//
// crypto/tls holds a sync.Mutex while it writes, and another one while it reads. So a tls.Conn over
// a Conn serves coroutines as long as no two of one loop write at once, nor two read. A Conn that
// has become TLS by EnableSSL has no such restriction.
//
// [Exec] runs a command. What else would hold the loop, such as a file or a look-up, goes through
// runtime.Await.
//
// # Which runtime
//
// A connection lives on a loop. If a coroutine dials or accepts it, that is the coroutine's own.
// Otherwise it is one of the runtime that the context comes from (net/http hands the request's
// context down to the dialer); of the one in the field Runtime of the Dialer or ListenConfig; of
// the only one that runs in the process; or of [Default], which is started for the purpose.
package hooks

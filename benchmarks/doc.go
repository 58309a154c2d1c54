// Package benchmarks holds the benchmarks that need more than one of Whorl's packages, and says
// where the others are. Each stands next to the same work on Go's standard library where there is
// such a thing. What is called cpu-… is user and system time; where the other side is needed, it is
// in another process.
//
//	Claim                                    Benchmark
//	switching to a coroutine and back        runtime: SwitchPair
//	starting a coroutine                     runtime: Go, GoAndJoin
//	memory of a parked coroutine             runtime: ParkedCoroutine
//	a million timers                         eventloop: TimerRearmAmongAMillion, AfterFuncFires
//	deferring                                defer: Defer; eventloop: Defer
//	posting from another thread              eventloop: PostFromAnotherGoroutine, PostRoundTrip
//	channels against Go's                    runtime: ChannelRoundTrip, ChannelHandOver
//	connecting                               Connect
//	round trips                              client: RoundTrip
//	packets with a delimiter                 client: EOFPackets, Pieces
//	packets with a length                    LengthPackets
//	handshakes, full and resumed             client: Handshake
//	TLS bulk against AES-GCM alone           TLSBulk
//	compact TLS, busy                        socket: CompactTLS
//	compact TLS, first packet after a rest   internal/compact: FirstPacket
//	idle connections, accepted               server: Idle
//	idle connections, made                   IdleClients
//	cost per message with many connections   Crowd
//	mails, against net/smtp and go-mail      smtp: Mails, RoundTrips
//	memory of a mail session over TLS        smtp: Sessions
//
// The comparison with other libraries is in benchmarks/peers, see README.md.
package benchmarks

package server

import (
	"errors"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// Stats are a server's figures since it was made; those of Connections and after are of now.
type Stats struct {
	Accepted   uint64 // connections begun
	Opened     uint64 // connections that came to stand: header of a proxy and handshake included
	Closed     uint64
	Refused    uint64 // by MaxConnections and MaxPerAddress
	PacketsIn  uint64 // without framing, reads
	BytesIn    uint64 // of packets, decrypted
	PacketsOut uint64 // calls of Send
	BytesOut   uint64 // of what was sent, before encryption
	Datagrams  uint64 // received
	// By outcome: "ok", "plaintext pending", or the reason, see package explain.
	Handshakes map[string]uint64

	// Connections that were reset after their end, as their clients took too little; CutBytes is
	// what was not delivered.
	Cut      uint64
	CutBytes uint64

	Connections int // all, those that don't stand yet and those that linger included
	Lingering   int // that have ended, and still deliver what was sent
	Opening     int // that don't stand yet
	Waiting     int // for one of MaxHandshakes
	Handshaking int
	BuffersFull int // connections between OnBufferFull and OnBufferEmpty
	// Bytes that were sent and that the kernel didn't take, because peers take less; what lingers
	// is counted every 100 ms.
	Queued int
	// By how much the loop that is latest was late for its last timer; precise to 100 ms of when.
	LoopLag time.Duration
}

// Stats returns the server's figures. It may be called from anywhere.
func (s *Server) Stats() Stats {
	st := Stats{
		Refused: s.refused.Load(), Datagrams: s.datagrams.Load(),
		Handshakes: s.outcomes.snapshot(), Connections: int(s.connections.Load()), Queued: int(s.backlog.Load()),
		Cut: s.cuts.connections.Load(), CutBytes: s.cuts.bytes.Load(),
	}
	s.mu.Lock()
	workers := s.workers
	s.mu.Unlock()
	for _, w := range workers {
		n := &w.counters
		st.Accepted += n.accepted.Load()
		st.Opened += n.opened.Load()
		st.Closed += n.closed.Load()
		st.PacketsIn += n.packetsIn.Load()
		st.BytesIn += n.bytesIn.Load()
		st.PacketsOut += n.packetsOut.Load()
		st.BytesOut += n.bytesOut.Load()
		st.Opening += int(n.opening.Load())
		st.Waiting += int(n.waiting.Load())
		st.Handshaking += int(n.handshaking.Load())
		st.BuffersFull += int(n.full.Load())
		st.Lingering += int(n.lingering.Load())
		st.Queued += int(n.lingerQueued.Load())
		st.LoopLag = max(st.LoopLag, time.Duration(n.lag.Load()))
	}
	return st
}

// outcomes counts how handshakes end.
type outcomes struct {
	mu     sync.Mutex
	counts map[string]uint64
}

func (o *outcomes) add(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.counts == nil {
		o.counts = make(map[string]uint64)
	}
	o.counts[what]++
}

func (o *outcomes) snapshot() map[string]uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.counts)
}

// outcomeOK is the outcome of a handshake that has succeeded; others have the reason of a
// *explain.HandshakeError.
const outcomeOK = "ok"

// handshaken counts the outcome of a handshake and returns the error with what lies behind it.
func (c *Conn) handshaken(err error) error {
	outcome := outcomeOK
	switch {
	case err == nil:
	case errors.Is(err, socket.ErrPlaintextPending):
		outcome = "plaintext pending"
	case errors.Is(err, socket.ErrBusy),
		errors.Is(err, socket.ErrSSLActive),
		errors.Is(err, net.ErrClosed),
		errors.Is(err, ErrNoTLS):
		return err // no handshake, or none that has ended by itself
	default:
		if _, ok := errors.AsType[*runtime.PanicError](err); ok ||
			errors.Is(err, runtime.ErrGoexit) {
			err = explain.Local(err, c.RemoteAddr().String())
		} else {
			err = explain.Server(err, c.RemoteAddr().String(), c.listener.port.TLS)
		}
		if explained, ok := errors.AsType[*explain.HandshakeError](err); ok {
			outcome = string(explained.Reason)
		}
	}
	c.worker.server.outcomes.add(outcome)
	return err
}

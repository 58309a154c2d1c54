// Package proxyproto reads the header of the PROXY protocol, versions 1 and 2, by which a load
// balancer tells a server whom it forwards
// (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt, "the specification" below).
//
// # Theory of operation
//
// [Parse] never touches a socket or the clock. Whoever owns the connection calls it with what has
// come so far, again with more while it returns 0, and drops the n bytes of the header at the end;
// what follows them is the application's. [Want] tells how much can be read without taking a byte
// of that.
//
// A header is all that stands between an address and whoever wants to forge it, hence the rules:
//
//   - Read it only from those who may send it, see [Trusted], and then demand it. A server that
//     takes connections with and without a header alike lets each client choose its address.
//   - It has to come within a few seconds. Some balancers (AWS NLB, unless told otherwise) send it
//     only with the client's first bytes, and never if the client waits for the server to speak
//     first.
//   - Nothing is read leniently. Where proxy and server disagree about the end of a header, a
//     client can put its own there. What can't become a header any more is refused at the first
//     byte that shows it.
//   - Texts that come in a header (names, paths, certificates) are the client's. They are cleaned
//     by those who print them.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// How long a header is at most, in bytes from its first to its last.
const (
	// MaxHeaderV1 includes the CRLF.
	MaxHeaderV1 = 107

	// MaxHeaderV2 is what the length field can say. No reader needs to go that far, see
	// DefaultLimit.
	MaxHeaderV2 = sizeV2 + 1<<16 - 1

	// DefaultLimit is what Parse takes of version 2. Addresses and all registered TLVs come to
	// about 600 bytes, so there is room for a client's certificate, which some proxies add. nginx
	// has the same limit.
	DefaultLimit = 4096
)

const (
	signatureV1 = "PROXY "
	signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"
	// Of the part of version 2 that is always there: signature, command, family, length.
	sizeV2 = 16
)

// Why a header was refused; found by errors.Is in what Parse returns. All are final: more bytes
// mend nothing.
var (
	// ErrNotProxy: the data begins no header of either version. Most likely the peer came without a
	// proxy.
	ErrNotProxy = errors.New("no PROXY protocol header")

	// ErrMalformed: a header begins and then breaks the specification. The wrapping error says how,
	// in words of ours.
	ErrMalformed = errors.New("malformed PROXY protocol header")

	// ErrTooLong: a header of version 2 announces that it is longer than the limit.
	ErrTooLong = errors.New("PROXY protocol header too long")
)

func malformed(text string) error { return fmt.Errorf("%w: %s", ErrMalformed, text) }

// A Header says between which endpoints the connection is that the proxy forwards.
type Header struct {
	// Version is 1 or 2.
	Version int

	// Local is set by the LOCAL command of version 2: the connection's endpoints are its own. Most
	// often the proxy checks the server's health, but HAProxy also says so for clients of a Unix
	// socket. The connection has to be served.
	Local bool

	// Network is "tcp4", "tcp6", "udp4", "udp6", "unix" or "unixgram". It is "" where the header
	// tells no addresses (Local, UNKNOWN of version 1, UNSPEC of version 2): then the connection's
	// own endpoints count.
	Network string

	// Source is the client, Destination what it has connected to; set with the first four networks.
	// Under tcp6 and udp6 an IPv4 address may come as an IPv4-mapped one, so compare after Unmap.
	Source, Destination netip.AddrPort

	// SourcePath and DestinationPath are set with "unix" and "unixgram". As in package net, "@" at
	// the beginning stands for the zero byte of the abstract namespace, and an endpoint without
	// name is "".
	SourcePath, DestinationPath string

	// TLVs are the additions of version 2. They are a part of the data that was parsed: clone them
	// (bytes.Clone, or Text for one of them) before the buffer is used for something else.
	TLVs TLVs
}

// Parse reads the header that data begins with, up to [DefaultLimit].
//
//   - n > 0: the header is complete and n bytes long. All behind data[:n] was left alone.
//   - n == 0, err == nil: it is incomplete. Call again with the same bytes and more behind them.
//   - err: it is none, and never will be: [ErrNotProxy], [ErrMalformed] or [ErrTooLong].
//
// How the network has cut the bytes changes neither the result nor which of the three errors it is.
// Parse allocates nothing unless the addresses are paths or there is an error. It is safe for
// concurrent use.
func Parse(data []byte) (n int, h Header, err error) { return ParseLimit(data, DefaultLimit) }

// ParseLimit is Parse with a limit of the caller's for version 2, in bytes for the whole header.
// Version 1 has a limit of its own, [MaxHeaderV1]. A reader has to be ready to hold as much.
func ParseLimit(data []byte, limit int) (n int, h Header, err error) {
	switch {
	case begins(data, signatureV1):
		return parseV1(data)
	case begins(data, signatureV2):
		return parseV2(data, limit)
	default:
		return 0, Header{}, ErrNotProxy
	}
}

// begins reports whether data begins with text, as far as there is data.
func begins(data []byte, text string) bool {
	n := min(len(data), len(text))
	return string(data[:n]) == text[:n]
}

// Want returns how many bytes the header that data begins has at least, counted from its first.
// Whoever reads only up to there never takes a byte of the application's. For a complete header it
// is its length; for an incomplete one it is more than len(data), and within the limit if Parse has
// accepted data. What Parse refuses has no meaningful answer.
func Want(data []byte) int {
	if len(data) > 0 && begins(data, signatureV2) {
		if len(data) < sizeV2 {
			return sizeV2
		}
		return sizeV2 + int(binary.BigEndian.Uint16(data[14:]))
	}
	if end := bytes.IndexByte(data, '\n'); end >= 0 {
		return end + 1
	}
	least := MaxHeaderV1
	for _, p := range protocolsV1 {
		if p.matches(data) {
			least = min(least, p.min)
		}
	}
	if bytes.HasSuffix(data, []byte{'\r'}) {
		return max(least, len(data)+len("\n"))
	}
	return max(least, len(data)+len("\r\n"))
}

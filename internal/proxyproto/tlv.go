package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
	"iter"
)

// A Type says what a TLV holds, specification section 2.2.
type Type byte

// Types of a header's TLVs. 0xE0 to 0xEF are for agreements of the two sides, for instance AWS's
// 0xEA.
const (
	TypeALPN      Type = 0x01 // the application protocol agreed on, as RFC 7301 names it: "h2"
	TypeAuthority Type = 0x02 // the host name that the client asked for (SNI), UTF-8
	TypeCRC32C    Type = 0x03 // checksum of the header, which Parse has verified
	TypeNoop      Type = 0x04 // padding
	TypeUniqueID  Type = 0x05 // names the connection, up to 128 bytes of whatever content
	TypeSSL       Type = 0x20 // see SSL
	TypeNetNS     Type = 0x30 // the network namespace, ASCII
)

// Types of the TLVs within that of TypeSSL. The last is an addition of Ghostunnel and others.
const (
	TypeSSLVersion    Type = 0x21 // "TLSv1.3", ASCII; others than HAProxy may write it differently
	TypeSSLCommonName Type = 0x22 // of the client's certificate, UTF-8
	TypeSSLCipher     Type = 0x23 // as OpenSSL names it, ASCII
	TypeSSLSigAlg     Type = 0x24 // by which the proxy's certificate is signed, ASCII
	TypeSSLKeyAlg     Type = 0x25 // of the key of the proxy's certificate, ASCII
	TypeSSLGroup      Type = 0x26 // of the key exchange, ASCII
	TypeSSLSigScheme  Type = 0x27 // by which the proxy signed the handshake, ASCII
	TypeSSLClientCert Type = 0x28 // the client's certificate, DER
)

const maxUniqueID = 128

// TLVs are type-length-value records as they are on the wire. Those of a Header that Parse has
// returned are well-formed. In others, iteration ends where a record is cut off.
type TLVs []byte

// next splits the first record off. ok is false at the end and where a record is cut off; rest is
// empty only at the end.
func (t TLVs) next() (typ Type, value []byte, rest TLVs, ok bool) {
	if len(t) < 3 {
		return 0, nil, t, false
	}
	end := 3 + int(binary.BigEndian.Uint16(t[1:]))
	if len(t) < end {
		return 0, nil, t, false
	}
	return Type(t[0]), t[3:end:end], t[end:], true
}

// All yields all records in their order, those of a type that comes twice and those to be ignored
// included. The values are parts of t.
func (t TLVs) All() iter.Seq2[Type, []byte] {
	return func(yield func(Type, []byte) bool) {
		for {
			typ, value, rest, ok := t.next()
			if !ok || !yield(typ, value) {
				return
			}
			t = rest
		}
	}
}

// Get returns the value of the first record of a type, which is a part of t, and whether there is
// one.
func (t TLVs) Get(typ Type) (value []byte, ok bool) {
	for each, value := range t.All() {
		if each == typ {
			return value, true
		}
	}
	return nil, false
}

// Text returns a copy of the value of the first record of a type, or "". It is the sender's: quote
// it before it is printed.
func (t TLVs) Text(typ Type) string {
	value, _ := t.Get(typ)
	return string(value)
}

// wellFormed reports whether t consists of whole records.
func (t TLVs) wellFormed() bool {
	for {
		_, _, rest, ok := t.next()
		if !ok {
			return len(rest) == 0
		}
		t = rest
	}
}

// inspect checks what the specification says about the records, and returns where in t the checksum
// is, or -1.
func (t TLVs) inspect() (sum int, err error) {
	sum = -1
	if !t.wellFormed() {
		return -1, malformed("TLV is cut off")
	}
	for rest := t; ; {
		typ, value, behind, ok := rest.next()
		if !ok {
			return sum, nil
		}
		rest = behind
		switch typ {
		case TypeCRC32C:
			if len(value) != 4 || sum >= 0 {
				return -1, malformed("checksum comes twice or is not of 4 bytes")
			}
			sum = len(t) - len(rest) - 4
		case TypeUniqueID:
			if len(value) > maxUniqueID {
				return -1, malformed("unique ID is too long")
			}
		case TypeSSL:
			if len(value) < sizeSSL || !TLVs(value[sizeSSL:]).wellFormed() {
				return -1, malformed("TLV of TLS is cut off")
			}
		}
	}
}

// verify checks the records, which are the end of the header, and the checksum if there is one.
func (t TLVs) verify(header []byte) error {
	sum, err := t.inspect()
	if err != nil || sum < 0 {
		return err
	}
	sum += len(header) - len(t)
	if binary.BigEndian.Uint32(header[sum:]) != checksum(header, sum) {
		return malformed("wrong checksum")
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var zeros [4]byte // a variable of its own function would be allocated

// checksum is CRC-32C over the header with zeros in place of the 4 bytes at sum, specification
// section 2.2.3.
func checksum(header []byte, sum int) uint32 {
	crc := crc32.Update(0, castagnoli, header[:sum])
	crc = crc32.Update(crc, castagnoli, zeros[:])
	return crc32.Update(crc, castagnoli, header[sum+4:])
}

const sizeSSL = 5 // of what stands before the records in the TLV of TypeSSL

// Flags of SSL.Client.
const (
	ClientSSL      = 1 << iota // the client speaks TLS with the proxy
	ClientCertConn             // it has presented a certificate on this connection
	// It has presented one in the TLS session that this connection belongs to.
	ClientCertSession
)

// SSL is what the proxy says of its TLS connection with the client. A proxy may send it for a
// client without TLS, too: then Client is 0.
type SSL struct {
	Client byte // flags: ClientSSL and others
	// What the verification of the certificate came to, in codes of OpenSSL. Ask Verified instead.
	Verify uint32
	TLVs   TLVs // types TypeSSLVersion and following
}

// Verified reports whether the client has proved itself by a certificate that the proxy accepts.
// That Verify is 0 does not say so: HAProxy sends 0 also if there is no certificate or no TLS.
func (s SSL) Verified() bool {
	return s.Client&ClientSSL != 0 && s.Client&(ClientCertConn|ClientCertSession) != 0 &&
		s.Verify == 0
}

// SSL returns what the first record of TypeSSL says, and whether there is one.
func (t TLVs) SSL() (s SSL, ok bool) {
	value, ok := t.Get(TypeSSL)
	if !ok || len(value) < sizeSSL {
		return SSL{}, false
	}
	return SSL{
		Client: value[0],
		Verify: binary.BigEndian.Uint32(value[1:]),
		TLVs:   TLVs(value[sizeSSL:]),
	}, true
}

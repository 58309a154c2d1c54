package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
)

const nameSOCKS5 = "SOCKS5"

// Constants of RFC 1928 and RFC 1929.
const (
	socksVersion = 5
	authVersion  = 1 // of the user name and password negotiation, which has a version of its own

	methodNone     = 0x00
	methodUserPass = 0x02
	methodsRefused = 0xff

	commandConnect = 1

	addrIPv4 = 1
	addrName = 3
	addrIPv6 = 4
)

// socks5 goes through
//
//	client: version, methods offered
//	proxy:  version, method chosen              methodChosen
//	client: user name, password                 only if the proxy chose method 2
//	proxy:  version, status                     authStatus
//	client: CONNECT target
//	proxy:  version, reply, 0, bound address    reply
type socks5 struct {
	exchange
	auth    []byte // the user name and password message; nil without credentials
	request []byte // the CONNECT message
}

// NewSOCKS5 prepares a SOCKS5 handshake for a tunnel to target, which is host:port. A host that is
// no IP address is resolved by the proxy. User and password both empty: no authentication is
// offered. Otherwise both have to be 1 to 255 bytes, without control characters; they go to the
// proxy in the clear, and only if it asks for them. An error means that an argument is invalid.
func NewSOCKS5(target, user, password string) (Handshake, error) {
	to, err := parseTarget(target)
	if err != nil {
		return nil, err
	}
	s := &socks5{request: to.socksConnect()}
	s.opening = []byte{socksVersion, 1, methodNone}
	s.step = s.methodChosen
	if user == "" && password == "" {
		return s, nil
	}

	if err := checkCredentials(user, password); err != nil {
		return nil, err
	}
	if len(user) < 1 || len(user) > 255 || len(password) < 1 || len(password) > 255 {
		return nil, errors.New(
			"proxy: user name and password of SOCKS5 have to be 1 to 255 bytes each",
		)
	}
	s.opening = []byte{socksVersion, 2, methodNone, methodUserPass}
	s.auth = append([]byte{authVersion, byte(len(user))}, user...)
	s.auth = append(append(s.auth, byte(len(password))), password...)
	return s, nil
}

// socksConnect is the request of RFC 1928 section 4.
func (t target) socksConnect() []byte {
	msg := []byte{socksVersion, commandConnect, 0}
	switch {
	case t.addr.Is4():
		msg = append(msg, addrIPv4)
	case t.addr.Is6():
		msg = append(msg, addrIPv6)
	default:
		msg = append(msg, addrName, byte(len(t.name)))
	}
	// Of the address and the name, the one that is not set adds nothing.
	msg = append(append(msg, t.addr.AsSlice()...), t.name...)
	return binary.BigEndian.AppendUint16(msg, t.port)
}

// methodChosen reads the method selection, RFC 1928 section 3.
func (s *socks5) methodChosen(in []byte) (used int, out []byte, err error) {
	if err := checkVersion(in, socksVersion); err != nil || len(in) < 2 {
		return 0, nil, err
	}
	switch method := in[1]; {
	case method == methodNone:
		s.step = s.reply
		return 2, s.request, nil
	case method == methodUserPass && s.auth != nil:
		s.step = s.authStatus
		return 2, s.auth, nil
	case method == methodsRefused:
		err := fmt.Errorf("%w: %w", ErrAuth, errMethod)
		return 0, nil, &Error{Proxy: nameSOCKS5, Answer: methodsRefused, Err: err}
	default:
		return 0, nil, malformed(
			nameSOCKS5,
			fmt.Sprintf("it chose method %d, which was not offered", method),
		)
	}
}

// authStatus reads the verdict on user name and password, RFC 1929 section 2.
func (s *socks5) authStatus(in []byte) (used int, out []byte, err error) {
	if err := checkVersion(in, authVersion); err != nil || len(in) < 2 {
		return 0, nil, err
	}
	if status := in[1]; status != 0 {
		return 0, nil, &Error{Proxy: nameSOCKS5, Answer: int(status), Err: ErrAuth}
	}
	s.step = s.reply
	return 2, s.request, nil
}

// reply reads the answer to CONNECT, RFC 1928 section 6. The bound address is measured and skipped:
// it is the proxy's own end of the connection and tells the client nothing it could use.
func (s *socks5) reply(in []byte) (used int, out []byte, err error) {
	if err := checkVersion(in, socksVersion); err != nil || len(in) < 2 {
		return 0, nil, err
	}
	// Judged before the rest is there, for some proxies send no more than this and close.
	if code := in[1]; code != 0 {
		err := fmt.Errorf("%w: %w", ErrRefused, replyFor(code))
		return 0, nil, &Error{Proxy: nameSOCKS5, Answer: int(code), Err: err}
	}
	if len(in) > 2 && in[2] != 0 {
		return 0, nil, malformed(nameSOCKS5, "reserved byte is not 0")
	}
	if len(in) < 4 {
		return 0, nil, nil
	}

	size := 4 + 2 // what precedes the address, and the port behind it
	switch kind := in[3]; kind {
	case addrIPv4:
		size += 4
	case addrIPv6:
		size += 16
	case addrName:
		if len(in) < 5 {
			return 0, nil, nil
		}
		size += 1 + int(in[4])
	default:
		return 0, nil, malformed(
			nameSOCKS5,
			fmt.Sprintf("bound address is of unknown type %d", kind),
		)
	}
	if len(in) < size {
		return 0, nil, nil
	}
	s.step = nil
	return size, nil, nil
}

// checkVersion judges the first byte of a message as soon as it is there: a peer that speaks
// something else would leave us waiting for the second.
func checkVersion(in []byte, want byte) error {
	if len(in) > 0 && in[0] != want {
		err := fmt.Errorf("%w: %w: message begins with version %d instead of %d",
			ErrProtocol, errVersion, in[0], want)
		return &Error{Proxy: nameSOCKS5, Err: err}
	}
	return nil
}

// What tells one kind of ErrProtocol, and of ErrAuth, from the others.
var (
	errVersion = errors.New("not SOCKS5")
	errMethod  = errors.New("no acceptable method")
)

// A replyError is a failure reply: the words of RFC 1928, and the errno that a direct connect would
// have brought.
type replyError struct {
	text  string
	errno syscall.Errno // 0 if none fits
}

func (e replyError) Error() string { return e.text }

func (e replyError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

// replies is indexed by the reply code. That 6 is a timeout is not in the RFC, which has packets in
// mind that ran out of hops; Dante and others send it when their connect timed out.
var replies = [...]replyError{
	1: {"general SOCKS server failure", 0},
	2: {"connection not allowed by ruleset", syscall.EACCES},
	3: {"network unreachable", syscall.ENETUNREACH},
	4: {"host unreachable", syscall.EHOSTUNREACH},
	5: {"connection refused", syscall.ECONNREFUSED},
	6: {"TTL expired", syscall.ETIMEDOUT},
	7: {"command not supported", syscall.EOPNOTSUPP},
	8: {"address type not supported", syscall.EAFNOSUPPORT},
}

func replyFor(code byte) replyError {
	if int(code) < len(replies) {
		return replies[code]
	}
	return replyError{text: "unassigned reply"}
}

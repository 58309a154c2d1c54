package engine

import (
	"encoding/binary"
	"unicode/utf8"
)

var (
	errCloseLength = &ProtocolError{CodeProtocolError,
		"close frame of one byte", "RFC 6455, section 5.5.1"}
	errCloseCode = &ProtocolError{CodeProtocolError,
		"close code that may not be sent", "RFC 6455, section 7.4"}
	errCloseReason = &ProtocolError{CodeInvalidPayload,
		"reason that isn't UTF-8", "RFC 6455, section 5.5.1"}
)

// ValidCloseCode says whether a close frame may carry code: those that RFC 6455 and its registry
// define for it (https://www.iana.org/assignments/websocket), those of frameworks, 3000 to 3999,
// and those of applications, 4000 to 4999.
func ValidCloseCode(code int) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
		return true
	}
	return false
}

// parseClose reads what a close frame carries.
func parseClose(data []byte) (code int, reason string, err *ProtocolError) {
	if len(data) == 0 {
		return CodeNoStatus, "", nil
	}
	if len(data) == 1 {
		return 0, "", errCloseLength
	}
	if code = int(binary.BigEndian.Uint16(data)); !ValidCloseCode(code) {
		return 0, "", errCloseCode
	}
	if !utf8.Valid(data[2:]) {
		return 0, "", errCloseReason
	}
	return code, string(data[2:]), nil
}

// AppendClose appends a close frame. Of a reason that is too long it sends the first 123 bytes,
// without a character that would be cut. Code 0 stands for a frame that carries neither code nor
// reason. Whether code may be sent is the caller's to check, with [ValidCloseCode].
func AppendClose(dst []byte, role Role, code int, reason string, mask [4]byte) []byte {
	if code == 0 {
		return AppendHeader(dst, role, Close, true, false, 0, mask)
	}
	if end := maxControl - 2; len(reason) > end {
		for end > 0 && !utf8.RuneStart(reason[end]) {
			end--
		}
		reason = reason[:end]
	}
	dst = AppendHeader(dst, role, Close, true, false, 2+len(reason), mask)
	start := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	dst = append(dst, reason...)
	maskFor(role, dst[start:], mask)
	return dst
}

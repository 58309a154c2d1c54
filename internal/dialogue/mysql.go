package dialogue

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// MySQL and MariaDB greet with what they can do. The client answers with an SSLRequest, and TLS
// begins behind that, unanswered:
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html

const (
	mysqlHeader = 4

	mysqlLongPassword     = 0x1
	mysqlLongFlag         = 0x4
	mysqlProtocol41       = 0x200
	mysqlSSL              = 0x800
	mysqlTransactions     = 0x2000
	mysqlSecureConnection = 0x8000
	mysqlPluginAuth       = 0x80000

	mysqlAbilities = mysqlLongPassword | mysqlLongFlag | mysqlProtocol41 | mysqlSSL |
		mysqlTransactions | mysqlSecureConnection | mysqlPluginAuth
)

// mysqlGreeting takes the server's first packet: three bytes with the length, the number 0, and
// either a handshake of version 10 or an error.
func mysqlGreeting(c *Client, data []byte) (int, error) {
	if len(data) < mysqlHeader {
		return 0, nil
	}
	length := int(data[0]) | int(data[1])<<8 | int(data[2])<<16
	switch {
	case data[3] != 0 || length == 0:
		return 0, c.broken("that is no first packet", data)
	case length > maxLine:
		return 0, c.tooLong()
	case len(data) < mysqlHeader+length:
		return 0, nil
	}
	packet := data[mysqlHeader : mysqlHeader+length]
	switch packet[0] {
	case 10:
		return mysqlHeader + length, c.mysqlHandshake(packet)
	case 0xff:
		return 0, c.mysqlError(packet)
	}
	return 0, c.broken("that is no handshake of version 10", data)
}

// mysqlHandshake looks for the flag of TLS, behind version, connection's number and half of the
// scramble.
func (c *Client) mysqlHandshake(packet []byte) error {
	_, rest, ok := bytes.Cut(packet[1:], []byte{0})
	const number, scramble, filler = 4, 8, 1
	if !ok || len(rest) < number+scramble+filler+2 {
		return c.broken("a handshake that is cut off", packet)
	}
	able := binary.LittleEndian.Uint16(rest[number+scramble+filler:])
	if able&mysqlSSL == 0 || able&mysqlProtocol41 == 0 {
		return c.fail(ErrNotOffered, 0, "", nil)
	}
	return nil
}

func (c *Client) mysqlError(packet []byte) error {
	if len(packet) < 3 {
		return c.broken("an error that is cut off", packet)
	}
	return c.fail(ErrRefused, int(binary.LittleEndian.Uint16(packet[1:])), "", packet[3:])
}

// mysqlPrefix is what SSLRequest is, and what a whole HandshakeResponse41 begins with: abilities,
// the largest packet, the character set utf8, and a filler.
var mysqlPrefix = func() string {
	b := binary.LittleEndian.AppendUint32(nil, mysqlAbilities)
	b = binary.LittleEndian.AppendUint32(b, 1<<24)
	return string(append(b, 0x21)) + strings.Repeat("\x00", 23)
}()

func mysqlPacket(number byte, body string) string {
	return string([]byte{byte(len(body)), 0, 0, number}) + body
}

var (
	mysqlPlain = []exchange{
		{phase: Greeting, whole: mysqlGreeting},
		{phase: StartTLS, send: say(mysqlPacket(1, mysqlPrefix))},
	}
	mysqlLogin = mysqlPacket(2, mysqlPrefix+"whorl\x00\x00mysql_native_password\x00")
)

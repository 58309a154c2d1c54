package explain

import (
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/whorl-go/whorl/internal/text"
)

// Plaintext explains that a server has spoken in plaintext before the client's hello or in answer
// to it. First is how it began, as far as that is known. Host is the host that was dialled; err is
// what it is for errors.Is and errors.As, nil for nothing.
func Plaintext(first []byte, host string, err error) *HandshakeError {
	f := saysPlaintext(first)
	return &HandshakeError{
		ID:     f.id,
		Reason: f.id.Reason(),
		Host:   host,
		Detail: f.detail,
		Advice: f.advice,
		Alert:  -1,
		Err:    err,
	}
}

// Protocol returns the name of the protocol that a server's first words are of, "" if it isn't
// known: "SMTP", "IMAP", "HTTP" and so on.
func Protocol(first []byte) string { return speakerOf(string(first)).protocol }

// plaintext explains a first record that is none. Five bytes are all that crypto/tls keeps.
func plaintext(record tls.RecordHeaderError) finding {
	if !strings.Contains(record.Msg, "does not look like a TLS handshake") {
		return finding{
			IDProtocolError, text.Printable(record.Error(), text.MaxText),
			"the server, or a box in the path, does not keep to the protocol",
		}
	}
	return saysPlaintext(record.RecordHeader[:])
}

func saysPlaintext(first []byte) finding {
	const most = 80 // of what is printed of it
	speaker := speakerOf(string(first))
	if len(first) == 0 {
		return finding{speaker.id, "the server spoke first, and not TLS", speaker.advice}
	}
	detail := "the server did not answer with TLS"
	if speaker.protocol != "" {
		detail = "the server speaks plaintext " + speaker.protocol + speaker.refuses
	}
	return finding{
		speaker.id,
		fmt.Sprintf(
			"%s: its first bytes are %+q (untrusted)",
			detail,
			first[:min(most, len(first))],
		),
		speaker.advice,
	}
}

const (
	adviceMail = "connect in plaintext and upgrade with STARTTLS, or use the port for TLS " +
		"(SMTP 465, IMAP 993, POP3 995, FTP 990)"
	adviceRefused = "see its full answer over a plaintext connection; was STARTTLS answered with " +
		"220?"
	adviceHTTP = "use the HTTPS port, or plain http:// or ws:// on this one"
	adviceNews = "connect in plaintext and upgrade with STARTTLS, or use port 563"
	adviceIRC  = "use the port for TLS (6697)"
	adviceXMPP = "connect in plaintext and upgrade with STARTTLS, or use port 5223"
	refuses    = ", and refuses"
)

// A speaker is a protocol by its first words. Five bytes have to do where crypto/tls kept no more;
// word, if there is one, has to be somewhere in the rest.
type speaker struct {
	prefix, word string
	id           ID
	protocol     string
	refuses      string
	advice       string
}

// speakers is searched from top to bottom.
var speakers = []speaker{
	{"HTTP/", "", IDPortHTTP, "HTTP", "", adviceHTTP},
	{"<html", "", IDPortHTTP, "HTTP", "", adviceHTTP},
	{"<!DOC", "", IDPortHTTP, "HTTP", "", adviceHTTP},
	{"220", "LMTP", IDPortStartTLS, "LMTP", "", "connect in plaintext and upgrade with STARTTLS"},
	{"220", "SMTP", IDPortStartTLS, "SMTP", "", adviceMail},
	{"220", "FTP", IDPortStartTLS, "FTP", "", adviceMail},
	{"220 ", "", IDPortStartTLS, "SMTP (or FTP)", "", adviceMail},
	{"220-", "", IDPortStartTLS, "SMTP (or FTP)", "", adviceMail},
	{
		"421 ", "", IDPortRefuses, "SMTP (or FTP)", refuses,
		"the server is busy or refuses this client: try later",
	},
	{"4", "", IDPortRefuses, "SMTP (or FTP)", refuses, adviceRefused},
	{"5", "", IDPortRefuses, "SMTP (or FTP)", refuses, adviceRefused},
	{"200 ", "", IDPortStartTLS, "NNTP", "", adviceNews},
	{"201 ", "", IDPortStartTLS, "NNTP", "", adviceNews},
	{"* ", "", IDPortStartTLS, "IMAP", "", adviceMail},
	{"+OK", "", IDPortStartTLS, "POP3", "", adviceMail},
	{"+PONG", "", IDPortPlaintext, "Redis", "", "use the port of tls-port in redis.conf"},
	{"-NOAU", "", IDPortPlaintext, "Redis", "", "use the port of tls-port in redis.conf"},
	{"-ERR", "", IDPortRefuses, "POP3 or Redis", refuses, adviceMail},
	{"SSH-", "", IDPortPlaintext, "SSH", "", "this port is for ssh"},
	{"RFB ", "", IDPortPlaintext, "VNC", "", "this port is for VNC; one with TLS is another"},
	{":", "", IDPortStartTLS, "IRC", "", adviceIRC},
	{"NOTIC", "", IDPortStartTLS, "IRC", "", adviceIRC},
	{`"`, "", IDPortStartTLS, "ManageSieve", "", "connect in plaintext and upgrade with STARTTLS"},
	{"<?xml", "", IDPortStartTLS, "XMPP", "", adviceXMPP},
	{"<stre", "", IDPortStartTLS, "XMPP", "", adviceXMPP},
}

const adviceUnknown = "is this the right port? On a port with STARTTLS, ask for the upgrade first"

func speakerOf(first string) speaker {
	for _, s := range speakers {
		if strings.HasPrefix(first, s.prefix) && strings.Contains(first, s.word) {
			return s
		}
	}
	if mysqlGreeting(first) {
		return speaker{
			id: IDPortStartTLS, protocol: "MySQL",
			advice: "have the client ask for TLS within MySQL's protocol " +
				"(--ssl-mode=VERIFY_IDENTITY)",
		}
	}
	return speaker{id: IDPortPlaintext, advice: adviceUnknown}
}

// mysqlGreeting reports whether first begins a packet with sequence number 0 and version 10 of the
// handshake. The version lies behind the five bytes' end only by one: 3 of length, 1 of sequence.
func mysqlGreeting(first string) bool {
	return len(first) >= 5 && first[1] == 0 && first[2] == 0 && first[3] == 0 && first[4] == 10
}

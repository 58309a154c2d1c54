package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// headerV1 is a header of version 1: a line of text.
func headerV1(client, server netip.AddrPort) []byte {
	family := "TCP4"
	if client.Addr().Is6() {
		family = "TCP6"
	}
	return fmt.Appendf(
		nil,
		"PROXY %s %s %s %d %d\r\n",
		family,
		client.Addr(),
		server.Addr(),
		client.Port(),
		server.Port(),
	)
}

// Version 2 is binary: a signature that no text protocol begins with, what kind of connection it
// is, how much follows, the addresses, and additions.
const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"

	commandLocal = 0x20 // version 2; the balancer's own connection
	commandProxy = 0x21 // version 2; on behalf of a client

	familyNone = 0x00
	familyTCP4 = 0x11
	familyTCP6 = 0x21

	additionAuthority  = 0x02 // the name that the client has asked for (SNI)
	additionTLS        = 0x20
	additionTLSVersion = 0x21 // within additionTLS
)

// localV2 is the header of a balancer's health check.
func localV2() []byte {
	return append([]byte(signature), commandLocal, familyNone, 0, 0) // nothing follows
}

// headerV2 is the header for a client that speaks TLS to the balancer.
func headerV2(client, server netip.AddrPort, tlsVersion, authority string) []byte {
	family := byte(familyTCP4)
	if client.Addr().Is6() {
		family = familyTCP6
	}
	body := append(client.Addr().AsSlice(), server.Addr().AsSlice()...)
	body = binary.BigEndian.AppendUint16(body, client.Port())
	body = binary.BigEndian.AppendUint16(body, server.Port())
	body = appendAddition(body, additionAuthority, []byte(authority))
	const speaksTLS = 1
	body = appendAddition(
		body,
		additionTLS,
		appendAddition([]byte{speaksTLS, 0, 0, 0, 0}, additionTLSVersion, []byte(tlsVersion)),
	)

	header := append([]byte(signature), commandProxy, family)
	header = binary.BigEndian.AppendUint16(header, uint16(len(body)))
	return append(header, body...)
}

func appendAddition(to []byte, kind byte, value []byte) []byte {
	to = binary.BigEndian.AppendUint16(append(to, kind), uint16(len(value)))
	return append(to, value...)
}

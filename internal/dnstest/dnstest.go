// Package dnstest is a name server for tests of several packages.
package dnstest

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Resolver makes a resolver of package net's that knows these names, each with one address of IPv4,
// and no others. There is no network behind it.
func Resolver(t testing.TB, known map[string]string) *net.Resolver {
	var servers sync.WaitGroup
	t.Cleanup(servers.Wait)
	dial := func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe() // no net.PacketConn, so it is spoken to as over TCP
		servers.Go(func() { serve(server, known) })
		return client, nil
	}
	return &net.Resolver{PreferGo: true, Dial: dial}
}

// Default makes it net.DefaultResolver until the end of the test.
func Default(t testing.TB, known map[string]string) {
	before := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = before })
	net.DefaultResolver = Resolver(t, known)
}

// serve answers questions until the other end is closed.
func serve(conn net.Conn, known map[string]string) {
	defer conn.Close()
	for {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		packed := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, packed); err != nil {
			return
		}
		var question dnsmessage.Message
		if question.Unpack(packed) != nil || len(question.Questions) != 1 {
			return
		}
		answer := answerTo(&question, known)
		packed, err := answer.AppendPack(make([]byte, 2, 512))
		if err != nil {
			return
		}
		binary.BigEndian.PutUint16(packed, uint16(len(packed)-2))
		if _, err := conn.Write(packed); err != nil {
			return
		}
	}
}

func answerTo(question *dnsmessage.Message, known map[string]string) *dnsmessage.Message {
	answer := &dnsmessage.Message{
		Header:    dnsmessage.Header{ID: question.ID, Response: true},
		Questions: question.Questions,
	}
	q := question.Questions[0]
	ip, ok := known[strings.TrimSuffix(q.Name.String(), ".")]
	switch {
	case !ok:
		answer.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		answer.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class},
			Body:   &dnsmessage.AResource{A: netip.MustParseAddr(ip).As4()},
		}}
	}
	return answer
}

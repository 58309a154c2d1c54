package handshake

import (
	"net/http"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/websocket/internal/engine"
)

// Whatever offers come, the answer to them is one that a client with the same offer would take
// from us, and what is agreed is within the limits.
func FuzzNegotiation(f *testing.F) {
	f.Add("permessage-deflate; client_max_window_bits, permessage-deflate; server_max_window_bits=10", byte(0))
	f.Add(`permessage-deflate; server_max_window_bits="9"; client_no_context_takeover, x; y="a, b"`, byte(3))
	f.Add(`a; b="\"", permessage-deflate`, byte(1))
	f.Fuzz(func(t *testing.T, line string, flags byte) {
		most := engine.Deflate{
			SendTakeover: flags&1 != 0, ReceiveTakeover: flags&2 != 0,
			SendBits: 8 + int(flags>>2&7), ReceiveBits: 8 + int(flags>>5&7),
		}
		agreed, header, ok := Answer(offers(line), most)
		if ok {
			switch {
			case !strings.Contains(line, "permessage-deflate"):
				t.Fatalf("%q wasn't offered", header)
			case agreed.SendBits < 8 || agreed.SendBits > most.SendBits || agreed.ReceiveBits < 8 || agreed.ReceiveBits > 15:
				t.Fatalf("windows of %d and %d bits", agreed.SendBits, agreed.ReceiveBits)
			case agreed.SendTakeover && !most.SendTakeover, agreed.ReceiveTakeover && !most.ReceiveTakeover:
				t.Fatal("takeover that isn't allowed")
			case strings.Contains(header, clientMaxBits) && !strings.Contains(line, clientMaxBits),
				strings.Contains(header, serverMaxBits) && !strings.Contains(line, serverMaxBits):
				t.Fatalf("%q answers what wasn't offered", header)
			}
			if list, ok := extensions(offers(header)); !ok || len(list) != 1 {
				t.Fatalf("%q can't be read", header)
			}
		}
		Agree(offers(line), &most)
	})
}

// No header brings the checks down, and none lets a wrong key in.
func FuzzHeaders(f *testing.F) {
	f.Add("websocket", "Upgrade", exampleKey, "13", "a, b", "http://a", "a")
	f.Add("a,websocket", "x, upgrade", "x", "8", "a;b", "http://[::1]:80", "[::1]")
	f.Fuzz(func(t *testing.T, upgrade, connection, key, version, protocol, page, host string) {
		r := &http.Request{Method: "GET", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: host, Header: http.Header{
			"Upgrade": {upgrade}, "Connection": {connection}, headerKey: {key}, headerVersion: {version},
			headerProtocol: {protocol}, "Origin": {page},
		}}
		if Check(r) == nil && (len(Key(r)) != 24 || trim(version) != "13" || !IsUpgrade(r)) {
			t.Fatalf("let in: %v", r.Header)
		}
		if CheckOrigin(r, nil) && !strings.Contains(strings.ToLower(page), "://") {
			t.Fatalf("origin %q is let in", page)
		}
		CheckOrigin(r, []string{page, host, "*." + host})
		for _, p := range Protocols(r.Header) {
			if p == "" || strings.ContainsAny(p, " \t,") {
				t.Fatalf("subprotocol %q", p)
			}
		}
		resp := &http.Response{StatusCode: 101, Header: http.Header{
			"Upgrade": {upgrade}, "Connection": {connection}, headerAccept: {key},
		}}
		if CheckResponse(resp, exampleKey) == nil && trim(key) != exampleAccept {
			t.Fatalf("accept key %q is taken", key)
		}
	})
}

package websocket_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/websocket"
)

// A violation is what a peer may not send, without its masks, and the code that it gets for it.
type violation struct {
	name    string
	first   byte // of the frame
	payload string
	length  string // what the header says, if it isn't the payload's length in its shortest form
	code    int
	before  string // a frame that goes before, without its mask
	deflate bool   // only where compression was agreed on
	plain   bool   // only where it wasn't
	wrong   bool   // masked where it must not be, and the other way round
	legal   bool   // a close frame, which is answered by the same code
}

const (
	fin  = 0x80
	rsv1 = 0x40
)

var violations = func() []violation {
	long := strings.Repeat("x", 126)
	all := []violation{
		{name: "mask", first: fin | 1, payload: "a", wrong: true, code: 1002},
		{name: "RSV2", first: fin | 0x20 | 1, payload: "a", code: 1002},
		{name: "RSV3", first: fin | 0x10 | 1, payload: "a", code: 1002},
		{name: "RSV1 on a ping", first: fin | rsv1 | 9, code: 1002},
		{name: "RSV1 on a close", first: fin | rsv1 | 8, code: 1002},
		{
			name: "RSV1 on a continuation", before: "\x01\x01a", first: fin | rsv1, payload: "b",
			code: 1002,
		},
		{name: "RSV1", first: fin | rsv1 | 1, payload: "\x00", plain: true, code: 1002},
		{name: "no deflate data", first: fin | rsv1 | 2, payload: "\x06\x06", deflate: true, code: 1007},
		{
			name: "inflated text", first: rsv1 | 1, payload: "\x00\x02\x00\xfd\xffa\xff",
			deflate: true, code: 1007,
		},
		{
			name: "inflated size", first: rsv1 | 2, deflate: true, code: 1009,
			// 1,100 bytes of "a".
			payload: "\x4a\x4c\x1c\x05\xa3\x60\x14\x8c\x02\xca\x01\x00\x00\x00\xff\xff",
		},
		{name: "text", first: fin | 1, payload: "\xff", code: 1007},
		{name: "text of a first fragment", first: 1, payload: "a\xff", code: 1007},
		{name: "text within a frame", first: fin | 1, payload: "a\xc3(", length: "\x64", code: 1007},
		{
			name: "text over fragments", before: "\x01\x02\xe2\x98", first: 0, payload: "a",
			length: "\x64", code: 1007,
		},
		{name: "close of one byte", first: fin | 8, payload: "\x03", code: 1002},
		{name: "close with a bad reason", first: fin | 8, payload: "\x03\xe8\xff", code: 1007},
		{name: "close of 126 bytes", first: fin | 8, payload: "\x03\xe8" + long[2:], code: 1002},
		{name: "ping of 126 bytes", first: fin | 9, payload: long, code: 1002},
		{name: "ping in fragments", first: 9, code: 1002},
		{name: "length not minimal", first: fin | 2, payload: "a", length: "\x7e\x00\x01", code: 1002},
		{
			name: "length far from minimal", first: fin | 2, payload: "a",
			length: "\x7f\x00\x00\x00\x00\x00\x00\x00\x01", code: 1002,
		},
		{
			name: "length with bit 63", first: fin | 2,
			length: "\x7f\x80\x00\x00\x00\x00\x00\x00\x00", code: 1002,
		},
		{
			name: "the largest length", first: fin | 2,
			length: "\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", code: 1009,
		},
		{name: "too large", first: fin | 2, length: "\x7e\x10\x00", code: 1009},
		{name: "too large in sum", before: "\x02\x01a", first: fin, length: "\x7e\x03\xe8", code: 1009},
		{name: "a message within another", before: "\x01\x01a", first: fin | 1, payload: "b", code: 1002},
		{name: "a continuation of nothing", first: fin, payload: "a", code: 1002},
	}
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535} {
		all = append(all, violation{
			name: fmt.Sprint("close with ", code), first: fin | 8, payload: two(code), code: 1002,
		})
	}
	for _, code := range []int{1000, 1003, 1007, 1012, 1013, 1014, 3000, 4999} {
		all = append(all, violation{
			name: fmt.Sprint("close with ", code), first: fin | 8, payload: two(code), code: code,
			legal: true,
		})
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		all = append(all, violation{name: fmt.Sprint("opcode ", op), first: fin | op, code: 1002})
	}
	return all
}()

func two(code int) string { return string([]byte{byte(code >> 8), byte(code)}) }

// bytes is what is sent to a server or to a client. All masks are zeros.
func (v violation) bytes(toServer bool) string {
	mask := func(masked bool, header string) string {
		if !masked {
			return header
		}
		b := []byte(header)
		b[1] |= 0x80
		return string(b) + "\x00\x00\x00\x00"
	}
	text := ""
	if v.before != "" {
		text = mask(toServer, v.before[:2]) + v.before[2:]
	}
	length := v.length
	if length == "" {
		length = string([]byte{byte(len(v.payload))})
		if len(v.payload) > 125 {
			length = "\x7e\x00" + length
		}
	}
	return text + mask(toServer != v.wrong, string([]byte{v.first})+length) + v.payload
}

// Each violation is answered by the close frame that the RFC names, and by nothing else, before the
// connection ends: in both roles, with and without compression, whole and byte by byte. It costs
// its own connection only.
func TestViolations(t *testing.T) {
	options := websocket.Options{MaxMessage: 1000}
	t.Run("server", func(t *testing.T) {
		options.Compression.Enabled = true // agreed to where it is offered
		echoes(t, options, func(t *testing.T, h *house) {
			good := h.upgraded("/")
			eachViolation(t, func(t *testing.T, v violation, deflate, bytewise bool) {
				lines := handshakeLines
				if deflate {
					lines += "Sec-WebSocket-Extensions: permessage-deflate\r\n"
				}
				r := h.connect()
				r.send("GET / HTTP/1.1\r\n" + lines + "\r\n")
				if resp := r.response(); (resp.Header.Get("Sec-WebSocket-Extensions") != "") != deflate {
					t.Fatalf("%v", resp.Header)
				}
				go trickle(r, v.bytes(true), bytewise)
				wantCloseFrame(t, r.r, v.code, 0)
			})
			good.send(frame(1, "still here"))
			good.expect(answer(1, "still here"))
		})
	})
	t.Run("client", func(t *testing.T) {
		type peer struct {
			net.Conn
			key *http.Request
		}
		peers := make(chan peer)
		url, ctx := scripted(t, func(conn net.Conn, r *http.Request) {
			done := make(chan struct{})
			peers <- peer{&waited{conn, done}, r}
			<-done
		})
		eachViolation(t, func(t *testing.T, v violation, deflate, bytewise bool) {
			options.Compression.Enabled = deflate
			dialled := make(chan error, 1)
			go func() {
				c, err := websocket.Dial(ctx, url, websocket.ClientConfig{Options: options})
				if err == nil {
					_, err = c.Recv(ctx)
				}
				dialled <- err
			}()
			p := receive(t, peers)
			defer p.Close()
			head := good + acceptOf(p.key) + "\r\n"
			if deflate {
				head += "Sec-WebSocket-Extensions: permessage-deflate; " +
					"server_no_context_takeover; client_no_context_takeover\r\n"
			}
			io.WriteString(p, head+"\r\n")
			go trickle(p, v.bytes(false), bytewise)
			wantClose(t, receive(t, dialled), v.code)
			if v.legal {
				p.Conn.(*waited).Conn.(*net.TCPConn).CloseWrite() // a client leaves that to the server
			}
			wantCloseFrame(t, p, v.code, 4)
		})
	})
}

// waited tells when it is closed.
type waited struct {
	net.Conn
	done chan struct{}
}

func (w *waited) Close() error {
	close(w.done)
	return nil
}

func eachViolation(t *testing.T, test func(t *testing.T, v violation, deflate, bytewise bool)) {
	for _, v := range violations {
		for _, deflate := range []bool{false, true} {
			if v.plain && deflate || v.deflate && !deflate {
				continue
			}
			for _, bytewise := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/deflate=%v,bytewise=%v", v.name, deflate, bytewise), func(t *testing.T) {
					test(t, v, deflate, bytewise)
				})
			}
		}
	}
}

// trickle sends text, at once or byte by byte, as far as the peer takes it.
func trickle(to io.Writer, text string, bytewise bool) {
	step := len(text)
	if bytewise {
		step = 1
	}
	for at := 0; at < len(text); at += step {
		if _, err := io.WriteString(to, text[at:at+step]); err != nil {
			return
		}
	}
}

// wantCloseFrame expects one close frame with a code, behind a mask of so many bytes, and the end
// of the connection. Whoever goes on sending is reset then.
func wantCloseFrame(t *testing.T, from io.Reader, code, mask int) {
	t.Helper()
	got, err := io.ReadAll(from)
	if errors.Is(err, syscall.ECONNRESET) {
		err = nil
	}
	if err != nil || len(got) < 4+mask || got[0] != 0x88 || len(got) != 2+mask+int(got[1]&0x7f) {
		t.Fatalf("answered %q, %v; want a close frame", got, err)
	}
	body := got[2+mask:]
	for i := range body {
		if mask > 0 {
			body[i] ^= got[2+i%4]
		}
	}
	if said := int(body[0])<<8 | int(body[1]); said != code {
		t.Errorf("closed with %d %q, want %d", said, body[2:], code)
	}
}

//go:build linux

package websockets

import (
	"bufio"
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"net"
	"sync"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"
)

var gobwasPeer = Peer{
	Name: "gobwas",
	About: "gobwas/ws, a goroutine per connection with its zero-copy upgrade, frames read " +
		"through bufio and written at once; compressors of level 1 pooled; broadcasts a compiled " +
		"frame",
	Plain: true, Deflate: true, TLS: true, Broadcast: true, Goroutines: 1,
	Module: "github.com/gobwas/ws",
	Serve: func(c Config, ready func(net.Addr)) error {
		l, err := c.listen()
		if err != nil {
			return err
		}
		ready(l.Addr())
		s := &gobwasServer{config: c}
		for {
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			go s.serve(conn)
		}
	},
}

type gobwasServer struct {
	config Config
	all    room[net.Conn]
}

func (s *gobwasServer) serve(conn net.Conn) {
	defer conn.Close()
	var u ws.Upgrader
	var deflate wsflate.Extension
	if s.config.Deflate {
		deflate.Parameters = wsflate.DefaultParameters
		u.Negotiate = deflate.Negotiate
	}
	if _, err := u.Upgrade(conn); err != nil {
		return
	}
	_, compressed := deflate.Accepted()
	if s.config.Broadcast {
		s.all.join(conn)
		defer s.all.leave(conn)
	}
	for r := bufio.NewReader(conn); ; {
		header, err := ws.ReadHeader(r)
		if err != nil {
			return
		}
		f := ws.Frame{Header: header, Payload: make([]byte, header.Length)}
		if _, err := io.ReadFull(r, f.Payload); err != nil {
			return
		}
		f = ws.UnmaskFrameInPlace(f)
		switch {
		case f.Header.OpCode.IsControl():
			return // its other side sends none but Close
		case s.config.Broadcast && f.Header.OpCode == ws.OpText:
			frame, err := ws.CompileFrame(ws.NewTextFrame(f.Payload))
			if err != nil {
				return
			}
			s.all.each(func(to net.Conn) { to.Write(frame) })
		case compressed:
			err = echoDeflated(conn, f)
		default:
			err = echoPlain(conn, f)
		}
		if err != nil {
			return
		}
	}
}

var (
	// ws.WriteFrame writes header and payload apart: a buffer makes it one write.
	buffers     = sync.Pool{New: func() any { return new(bytes.Buffer) }}
	compressors = sync.Pool{New: func() any {
		return wsflate.NewWriter(nil, func(w io.Writer) wsflate.Compressor {
			z, _ := flate.NewWriter(w, flate.BestSpeed) // the level is one
			return z
		})
	}}
	decompressors = sync.Pool{New: func() any {
		return wsflate.NewReader(nil, func(r io.Reader) wsflate.Decompressor {
			return flate.NewReader(r)
		})
	}}
)

var errText = errors.New("websockets: text that isn't UTF-8")

func echoPlain(w io.Writer, f ws.Frame) error {
	if f.Header.OpCode == ws.OpText && !utf8.Valid(f.Payload) {
		return errText
	}
	out := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(out)
	out.Reset()
	if err := ws.WriteFrame(out, ws.NewFrame(f.Header.OpCode, true, f.Payload)); err != nil {
		return err
	}
	_, err := w.Write(out.Bytes())
	return err
}

func echoDeflated(w io.Writer, f ws.Frame) error {
	h, compressed, err := wsflate.UnsetBit(f.Header)
	if err != nil {
		return err
	}
	if !compressed {
		return echoPlain(w, ws.Frame{Header: h, Payload: f.Payload})
	}
	message, packed, out := buffers.Get().(*bytes.Buffer), buffers.Get().(*bytes.Buffer),
		buffers.Get().(*bytes.Buffer)
	for _, b := range []*bytes.Buffer{message, packed, out} {
		defer buffers.Put(b)
		b.Reset()
	}
	r := decompressors.Get().(*wsflate.Reader)
	defer decompressors.Put(r)
	r.Reset(bytes.NewReader(f.Payload))
	if _, err := message.ReadFrom(r); err != nil {
		return err
	}
	if h.OpCode == ws.OpText && !utf8.Valid(message.Bytes()) {
		return errText
	}
	z := compressors.Get().(*wsflate.Writer)
	defer compressors.Put(z)
	z.Reset(packed)
	if _, err := z.Write(message.Bytes()); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	answer := ws.NewFrame(h.OpCode, true, packed.Bytes())
	if answer.Header, err = wsflate.SetBit(answer.Header); err != nil {
		return err
	}
	if err := ws.WriteFrame(out, answer); err != nil {
		return err
	}
	_, err = w.Write(out.Bytes())
	return err
}

//go:build linux

package socket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/whorl-go/whorl/packet"
)

// Packets that were found beforehand are no different from others for who takes the bytes in
// another way in between.
func TestPacketsFoundBeforehand(t *testing.T) {
	const lines = 200 // more than an index holds
	var stream bytes.Buffer
	line := func(i int) string { return fmt.Sprintf("line number %d\n", i) }
	for i := range lines {
		stream.WriteString(line(i))
	}
	for name, take := range map[string]func(ctx context.Context, s *Socket) (string, error){
		"Recv": func(ctx context.Context, s *Socket) (string, error) {
			p := make([]byte, len(line(100)))
			n, err := s.RecvAll(ctx, p)
			return string(p[:n]), err
		},
		"RecvLine": func(ctx context.Context, s *Socket) (string, error) {
			p, err := s.RecvLine(ctx, 100)
			return string(p), err
		},
		"Peek": func(ctx context.Context, s *Socket) (string, error) {
			if _, err := s.Peek(make([]byte, 5)); err != nil {
				return "", err
			}
			p, err := s.RecvPacket(ctx)
			return string(p), err
		},
		"another framer": func(ctx context.Context, s *Socket) (string, error) {
			framer, err := packet.NewEOF("ber ", 100)
			if err != nil {
				return "", err
			}
			if err := s.SetProtocol(framer); err != nil {
				return "", err
			}
			first, err := s.RecvPacket(ctx)
			if err != nil {
				return "", err
			}
			begin := string(first)
			framer, err = packet.NewEOF("\n", 100)
			if err != nil {
				return "", err
			}
			if err := s.SetProtocol(framer); err != nil {
				return "", err
			}
			rest, err := s.RecvPacket(ctx)
			return begin + string(rest), err
		},
		"TryRecvPacket": func(ctx context.Context, s *Socket) (string, error) {
			if got := s.Buffered(); got == 0 {
				return "", errors.New("nothing is buffered")
			}
			p, err := (*inner)(s).TryRecvPacket()
			return string(p), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			pairs(t, func(ctx context.Context, s, peer *Socket) {
				framer, err := packet.NewEOF("\n", 100)
				if err != nil {
					t.Fatal(err)
				}
				s.SetProtocol(framer)
				if _, err := peer.SendAll(ctx, stream.Bytes()); err != nil {
					t.Fatal(err)
				}
				for i := range lines {
					receive := func(ctx context.Context, s *Socket) (string, error) {
						p, err := s.RecvPacket(ctx)
						return string(p), err
					}
					if i >= 100 && i%7 == 0 {
						receive = take
					}
					if got, err := receive(ctx, s); err != nil || got != line(i) {
						t.Fatalf("line %d: %q, %v", i, got, err)
					}
				}
				if s.in.index != nil || s.Buffered() != 0 {
					t.Error("something is left")
				}
			})
		})
	}
}

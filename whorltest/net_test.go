package whorltest_test

import (
	"errors"
	"net"
	"testing"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/whorltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Package net's own transports pass the suite, so what it asks for is what package net does.
func TestNet(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			whorltest.TestStream(t, func() (a, b net.Conn, stop func(), err error) {
				address := "127.0.0.1:0"
				if network == "unix" {
					address = t.TempDir() + "/s"
				}
				l, err := net.Listen(network, address)
				if err != nil {
					return nil, nil, nil, err
				}
				defer l.Close()
				a, err = net.Dial(network, l.Addr().String())
				if err != nil {
					return nil, nil, nil, err
				}
				if b, err = l.Accept(); err != nil {
					return nil, nil, nil, errors.Join(err, a.Close())
				}
				return a, b, func() { a.Close(); b.Close() }, nil
			}, nil)
		})
	}
}

//go:build linux

package otherside

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// secureConn is a connection of wss, which idles: crypto/tls does.
type secureConn struct {
	*tls.Conn
	next int
}

// secureAtATime is how many goroutines open connections, or have messages come back.
const secureAtATime = 16

// openSecure opens n connections of wss, on each of which a message comes back.
func (l *load) openSecure(n int) error {
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: l.config.ServerName}
	config.RootCAs.AppendCertsFromPEM([]byte(l.config.CA))
	dialer := &net.Dialer{Timeout: answerTimeout}
	first := len(l.secure)
	l.secure = append(l.secure, make([]*secureConn, n)...)
	return inParallel(n, func(i int) error {
		conn, err := tls.DialWithDialer(dialer, "tcp", l.config.Addr, config)
		if err != nil {
			return fmt.Errorf("otherside: %w", err)
		}
		c := &secureConn{conn, first + i}
		l.secure[first+i] = c
		if err := errors.Join(c.SetDeadline(time.Now().Add(answerTimeout)),
			c.NetConn().(*net.TCPConn).SetLinger(0)); err != nil {
			return err
		}
		if _, err := c.Write(l.request(c.next)); err != nil {
			return err
		}
		if err := c.await(func(in []byte) (bool, error) {
			return l.accepted(in, c.next)
		}); err != nil {
			return err
		}
		return l.tripSecure(c)
	})
}

// tripsSecure has a message come back on each connection.
func (l *load) tripsSecure() error {
	return inParallel(len(l.secure), func(i int) error { return l.tripSecure(l.secure[i]) })
}

func (l *load) tripSecure(c *secureConn) error {
	c.next++
	m := &l.messages[c.next%len(l.messages)]
	if err := c.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if _, err := c.Write(m.frame); err != nil {
		return err
	}
	err := c.await(func(in []byte) (bool, error) { return m.check(in, l.config.Deflate) })
	if err == nil {
		l.counter.Add(1)
	}
	return err
}

// await reads until what has come is whole.
func (c *secureConn) await(check func(in []byte) (whole bool, err error)) error {
	var buf [4096]byte
	for got := 0; ; {
		n, err := c.Read(buf[got:])
		if err != nil {
			return err
		}
		got += n
		if whole, err := check(buf[:got]); whole || err != nil {
			return err
		}
	}
}

// inParallel calls fn for 0 to n-1, on several goroutines.
func inParallel(n int, fn func(i int) error) error {
	var all sync.WaitGroup
	errs := make([]error, secureAtATime)
	for worker := range secureAtATime {
		all.Go(func() {
			for i := worker; i < n && errs[worker] == nil; i += secureAtATime {
				errs[worker] = fn(i)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

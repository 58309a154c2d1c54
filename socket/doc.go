// Package socket is one socket with all its verbs, for coroutines: it reads and writes like a
// blocking socket and yields to the loop where that would block. From a plain goroutine it parks
// the goroutine.
//
//	s, err := socket.New("tcp")
//	...
//	err = s.Connect(ctx, "mail.example.com:25")
//	line, err := s.RecvLine(ctx, 512)
//	_, err = s.SendAll(ctx, []byte("EHLO client.example\r\n"))
//	...
//	err = s.SSLHandshake(ctx, &tls.Config{ServerName: "mail.example.com"})
//
// Most programs want package client or server, which stand on this one. Errors are *net.OpError,
// and [errors.Is] finds in them runtime.ErrTimeout, context.Canceled, net.ErrClosed, the errors of
// this package and those of the system (syscall.ECONNRESET); [Code] gives the numbers that ported
// code knows. io.EOF comes bare.
package socket

package explain_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

func ExampleClient() {
	ca, err := devca.New("Example CA")
	if err != nil {
		fmt.Println(err)
		return
	}
	cert, err := ca.Issue("www.test", "test")
	if err != nil {
		fmt.Println(err)
		return
	}
	config := tlsconfig.NewClient(&tls.Config{RootCAs: ca.Pool()}).For("mail.test")
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			io.Copy(io.Discard, conn) // shakes hands and waits for the client to leave
			conn.Close()
		}
	}()
	_, err = tls.Dial("tcp", listener.Addr().String(), config)

	err = explain.Client(err, "mail.test", config)
	fmt.Println(err)
	if failure, ok := errors.AsType[*explain.HandshakeError](err); ok {
		fmt.Println(failure.Reason == explain.ReasonNameMismatch)
	}
	// Output:
	// tls handshake with mail.test: name mismatch: the certificate is for "www.test", "test", not for mail.test; connect by one of these names, set ServerName (ssl_host_name) to it, or have the server send another certificate
	// true
}

func ExampleServer() {
	cert, err := devca.SelfSigned(devca.Request{Names: []string{"mail.test"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	server, err := tlsconfig.NewServer(tlsconfig.ServerOptions{
		Certificates: []tlsconfig.ServerCertificate{{Certificate: &cert}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	client, accepted := net.Pipe()
	defer client.Close()
	defer accepted.Close()
	go client.Write([]byte("EHLO client.test\r\n"))

	err = tls.Server(accepted, server.Config()).Handshake()
	fmt.Println(explain.Server(err, "192.0.2.7:4711", nil))
	fmt.Printf("%s", explain.PlaintextHint(err))
	// Output:
	// tls handshake with 192.0.2.7:4711: plaintext client: the client speaks plaintext SMTP: its first bytes are "EHLO " (untrusted); have it use TLS from the start, or the port for plaintext and STARTTLS
	// 554 5.7.0 This port is for TLS from the start
}

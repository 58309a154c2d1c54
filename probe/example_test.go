//go:build linux

package probe_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"

	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func ExampleRun() {
	cert, err := devca.SelfSigned(devca.Request{Names: []string{"www.test"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	listener, err := tls.Listen(
		"tcp",
		"127.0.0.1:0",
		&tls.Config{Certificates: []tls.Certificate{cert}},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(io.Discard, conn) // shakes hands and waits for the client to leave
				conn.Close()
			}()
		}
	}()

	report, err := probe.Run(context.Background(), probe.Target{
		Host: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port, ServerName: "mail.test",
	}, probe.Options{Roots: x509.NewCertPool()})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, finding := range report.Findings {
		fmt.Printf("%s: %s\n", finding.ID, finding.Evidence)
	}
	fmt.Println(report.Findings[0].Mend)
	// Output:
	// TLS-CERT-SELF-SIGNED: the server's certificate "www.test" is signed with its own key
	// TLS-NAME-MISMATCH: the certificate is for "www.test", not for mail.test
	// Trust it by RootCAs (ssl_cafile), or for tests by ssl_allow_self_signed.
}

package tlsconfig_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

func ExampleNewServer() {
	ca, err := devca.New("Example CA")
	if err != nil {
		fmt.Println(err)
		return
	}
	mail, err := ca.Issue("mail.test")
	if err != nil {
		fmt.Println(err)
		return
	}
	web, err := ca.Issue("*.www.test")
	if err != nil {
		fmt.Println(err)
		return
	}
	server, err := tlsconfig.NewServer(tlsconfig.ServerOptions{
		Certificates: []tlsconfig.ServerCertificate{
			{Certificate: &mail}, // mostly: CertFile and KeyFile
			{Certificate: &web},
		},
		ALPN: []string{"example"},
	})
	if err != nil {
		fmt.Println(err) // says what is wrong, and what mends it
		return
	}

	listener, err := tls.Listen("tcp", "127.0.0.1:0", server.Config()) // one configuration for all connections
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
			conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()

	for _, name := range []string{"mail.test", "a.www.test"} {
		conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: ca.Pool(), ServerName: name, NextProtos: []string{"example"}})
		if err != nil {
			fmt.Println(err)
			return
		}
		state := conn.ConnectionState()
		fmt.Println(name, state.PeerCertificates[0].DNSNames, state.NegotiatedProtocol)
		conn.Close()
	}
	// Output:
	// mail.test [mail.test] example
	// a.www.test [*.www.test] example
}

func ExampleNewServer_errors() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	cert, err := devca.SelfSigned(devca.Request{Names: []string{"mail.test"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := devca.WritePEM(cert, certFile, keyFile); err != nil {
		fmt.Println(err)
		return
	}

	_, err = tlsconfig.NewServer(tlsconfig.ServerOptions{
		Certificates: []tlsconfig.ServerCertificate{{CertFile: keyFile, KeyFile: certFile}},
	})
	if e, ok := errors.AsType[*tlsconfig.CertificateError](err); ok {
		fmt.Println(e.Reason == explain.ReasonSwapped)
		fmt.Println(e.Detail)
		fmt.Println(e.Advice)
	}
	// Output:
	// true
	// the certificate's file has the key, and the key's file the certificate: they are swapped
	// exchange the two
}

func ExampleServer_Watch() {
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

	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		server.Watch(ctx, tlsconfig.WatchOptions{Interval: time.Minute, Logger: zap.NewNop(), Signals: hangups})
	})
	// The program serves, and then:
	cancel()
	wg.Wait()
	fmt.Println("done")
	// Output: done
}

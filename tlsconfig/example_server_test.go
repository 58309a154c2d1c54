package tlsconfig_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/tlsconfig"
	"go.uber.org/zap"
)

func ExampleNewServer() {
	ca, err := tlsconfig.NewCA("Example CA")
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
	cert, err := tlsconfig.SelfSigned(tlsconfig.Request{Names: []string{"mail.test"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := tlsconfig.WritePEM(cert, certFile, keyFile); err != nil {
		fmt.Println(err)
		return
	}

	_, err = tlsconfig.NewServer(tlsconfig.ServerOptions{
		Certificates: []tlsconfig.ServerCertificate{{CertFile: keyFile, KeyFile: certFile}},
	})
	if e, ok := errors.AsType[*tlsconfig.CertificateError](err); ok {
		fmt.Println(e.Reason == tlsconfig.ReasonSwapped)
		fmt.Println(e.Detail)
		fmt.Println(e.Advice)
	}
	// Output:
	// true
	// the certificate's file has the key, and the key's file the certificate: they are swapped
	// exchange the two
}

func ExampleServer_Watch() {
	cert, err := tlsconfig.SelfSigned(tlsconfig.Request{Names: []string{"mail.test"}})
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

func ExampleServerFromOptions() {
	options, err := tlsconfig.ServerFromOptions(map[string]any{
		"ssl_cert_file":        "/etc/ssl/mail.pem",
		"ssl_key_file":         "/etc/ssl/mail.key",
		"ssl_client_cert_file": "/etc/ssl/clients.pem",
		"ssl_verify_peer":      true,
	})
	fmt.Println(options.ClientCerts == tlsconfig.ClientCertsRequire, err)

	_, err = tlsconfig.ServerFromOptions(map[string]any{"ssl_dhparam": "dh.pem"})
	fmt.Println(err)
	// Output:
	// true <nil>
	// tlsconfig: ssl_dhparam: can't be honoured: crypto/tls has no finite-field Diffie-Hellman, its key exchanges need no parameters; leave it out
}

func ExampleServerFromPHP() {
	options, err := tlsconfig.ServerFromPHP(map[string]any{
		"local_cert":       "/etc/ssl/default.pem",
		"SNI_server_certs": map[string]string{"*.example.com": "/etc/ssl/example.pem"},
		"alpn_protocols":   "http/1.1",
		"crypto_method":    32 | 64, // STREAM_CRYPTO_METHOD_TLSv1_2_SERVER | STREAM_CRYPTO_METHOD_TLSv1_3_SERVER
	})
	fmt.Println(options.Certificates[1].Names, options.ALPN, err)
	// Output: [*.example.com] [http/1.1] <nil>
}

func ExampleClientFromPHP() {
	config, err := tlsconfig.ClientFromPHP(map[string]any{"peer_name": "mail.test", "alpn_protocols": "smtp"})
	fmt.Println(config.ServerName, config.NextProtos, err)

	_, err = tlsconfig.ClientFromPHP(map[string]any{"peer_fingerprint": "d41d8cd98f00b204e9800998ecf8427e"})
	fmt.Println(err)
	// Output:
	// mail.test [smtp] <nil>
	// tlsconfig: peer_fingerprint: MD5 can't be honoured: two certificates with one MD5 can be made; take SHA-256
}

func ExampleExplainServer() {
	cert, err := tlsconfig.SelfSigned(tlsconfig.Request{Names: []string{"mail.test"}})
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
	fmt.Println(tlsconfig.ExplainServer(err, "192.0.2.7:4711"))
	fmt.Printf("%s", tlsconfig.PlaintextHint(err))
	// Output:
	// tls handshake with 192.0.2.7:4711: plaintext client: the client speaks plaintext SMTP: its first bytes are "EHLO " (untrusted); have it use TLS from the start, or the port for plaintext and STARTTLS
	// 554 5.7.0 This port is for TLS from the start
}

package tlsconfig_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/whorl-go/whorl/tlsconfig"
)

// connect makes a TLS connection to a server with that certificate.
func connect(config *tls.Config, cert tls.Certificate) (tls.ConnectionState, error) {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			io.Copy(io.Discard, conn) // shakes hands and waits for the client to leave
			conn.Close()
		}
	}()

	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer raw.Close()
	conn := tls.Client(raw, config)
	err = conn.Handshake()
	return conn.ConnectionState(), err
}

func ExampleClient_For() {
	ca, err := tlsconfig.NewCA("Example CA")
	if err != nil {
		fmt.Println(err)
		return
	}
	cert, err := ca.Issue("mail.test")
	if err != nil {
		fmt.Println(err)
		return
	}

	configs := tlsconfig.NewClient(&tls.Config{RootCAs: ca.Pool()})
	config := configs.For("mail.test") // for each connection; the same *tls.Config each time
	state, err := connect(config, cert)
	fmt.Println(state.Version == tls.VersionTLS13, err)
	// Output: true <nil>
}

func ExampleFromOptions() {
	config, err := tlsconfig.FromOptions(map[string]any{
		"ssl_host_name": "mail.test",
		"ssl_protocols": 32 | 64, // SWOOLE_SSL_TLSv1_2 | SWOOLE_SSL_TLSv1_3
		"ssl_ciphers":   "EECDH+AESGCM:!aNULL",
	})
	fmt.Println(config.ServerName, len(config.CipherSuites), err)

	_, err = tlsconfig.FromOptions(map[string]any{"ssl_protocols": 16 | 64})
	fmt.Println(err)
	_, err = tlsconfig.FromOptions(map[string]any{"ssl_dhparam": "dh.pem"})
	fmt.Println(err)
	// Output:
	// mail.test 4 <nil>
	// tlsconfig: ssl_protocols: 80 has a hole between TLS 1.1 and TLS 1.3: only a range without holes can be had
	// tlsconfig: ssl_dhparam: is a server option: a client has no use for it
}

func ExampleExplain() {
	ca, err := tlsconfig.NewCA("Example CA")
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
	_, err = connect(config, cert)

	err = tlsconfig.Explain(err, "mail.test", config)
	fmt.Println(err)
	if failure, ok := errors.AsType[*tlsconfig.HandshakeError](err); ok {
		fmt.Println(failure.Reason == tlsconfig.ReasonNameMismatch)
	}
	// Output:
	// tls handshake with mail.test: name mismatch: the certificate is for "www.test", "test", not for mail.test; connect by one of these names, set ServerName (ssl_host_name) to it, or have the server send another certificate
	// true
}

func ExampleDescribe() {
	fmt.Println(tlsconfig.Describe(tls.ConnectionState{
		Version:     tls.VersionTLS13,
		CipherSuite: tls.TLS_AES_128_GCM_SHA256,
		CurveID:     tls.X25519MLKEM768,
		DidResume:   true,
	}))
	// Output: TLS 1.3, TLS_AES_128_GCM_SHA256, X25519MLKEM768, resumed
}

func ExampleNewCA() {
	ca, err := tlsconfig.NewCA("Example CA")
	if err != nil {
		fmt.Println(err)
		return
	}
	cert, err := ca.Issue("mail.test", "127.0.0.1")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cert.Leaf.Subject, cert.Leaf.DNSNames, cert.Leaf.IPAddresses, "issued by", cert.Leaf.Issuer)
	// Output: CN=mail.test [mail.test] [127.0.0.1] issued by CN=Example CA
}

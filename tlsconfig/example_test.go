package tlsconfig_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"

	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
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
	ca, err := devca.New("Example CA")
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

func ExampleDescribe() {
	fmt.Println(tlsconfig.Describe(tls.ConnectionState{
		Version:     tls.VersionTLS13,
		CipherSuite: tls.TLS_AES_128_GCM_SHA256,
		CurveID:     tls.X25519MLKEM768,
		DidResume:   true,
	}))
	// Output: TLS 1.3, TLS_AES_128_GCM_SHA256, X25519MLKEM768, resumed
}

package dialect_test

import (
	"fmt"

	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/dialect"
)

func ExampleSwooleClient() {
	config, err := dialect.SwooleClient(map[string]any{
		"ssl_host_name": "mail.test",
		"ssl_protocols": 32 | 64, // SWOOLE_SSL_TLSv1_2 | SWOOLE_SSL_TLSv1_3
		"ssl_ciphers":   "EECDH+AESGCM:!aNULL",
	})
	fmt.Println(config.ServerName, len(config.CipherSuites), err)

	_, err = dialect.SwooleClient(map[string]any{"ssl_protocols": 16 | 64})
	fmt.Println(err)
	_, err = dialect.SwooleClient(map[string]any{"ssl_dhparam": "dh.pem"})
	fmt.Println(err)
	// Output:
	// mail.test 4 <nil>
	// option ssl_protocols: 80 has a hole between TLS 1.1 and TLS 1.3: only a range without holes can be had
	// option ssl_dhparam: is a server option: a client has no use for it
}

func ExampleSwooleServer() {
	options, err := dialect.SwooleServer(map[string]any{
		"ssl_cert_file":        "/etc/ssl/mail.pem",
		"ssl_key_file":         "/etc/ssl/mail.key",
		"ssl_client_cert_file": "/etc/ssl/clients.pem",
		"ssl_verify_peer":      true,
	})
	fmt.Println(options.ClientCerts == tlsconfig.ClientCertsRequire, err)

	_, err = dialect.SwooleServer(map[string]any{"ssl_dhparam": "dh.pem"})
	fmt.Println(err)
	// Output:
	// true <nil>
	// option ssl_dhparam: can't be honoured: crypto/tls has no finite-field Diffie-Hellman, its key exchanges need no parameters; leave it out
}

func ExamplePHPClient() {
	config, err := dialect.PHPClient(map[string]any{"peer_name": "mail.test", "alpn_protocols": "smtp"})
	fmt.Println(config.ServerName, config.NextProtos, err)

	_, err = dialect.PHPClient(map[string]any{"peer_fingerprint": "d41d8cd98f00b204e9800998ecf8427e"})
	fmt.Println(err)
	// Output:
	// mail.test [smtp] <nil>
	// option peer_fingerprint: MD5 can't be honoured: two certificates with one MD5 can be made; take SHA-256
}

func ExamplePHPServer() {
	options, err := dialect.PHPServer(map[string]any{
		"local_cert":       "/etc/ssl/default.pem",
		"SNI_server_certs": map[string]string{"*.example.com": "/etc/ssl/example.pem"},
		"alpn_protocols":   "http/1.1",
		"crypto_method":    32 | 64, // STREAM_CRYPTO_METHOD_TLSv1_2_SERVER | STREAM_CRYPTO_METHOD_TLSv1_3_SERVER
	})
	fmt.Println(options.Certificates[1].Names, options.ALPN, err)
	// Output: [*.example.com] [http/1.1] <nil>
}

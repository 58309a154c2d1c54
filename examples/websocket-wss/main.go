// Websocket-wss is about certificates: an echo over wss with those of files, which are checked
// before anything is served; the same behind nginx; and what can go wrong, seen from both sides.
//
//	go run ./examples/websocket-wss
//
// makes each mistake, has a client connect, and ends:
//
//	fault             server, at its start  client              server, in its log
//	incomplete-chain  incomplete chain      incomplete chain    certificate refused
//	wrong-key         key mismatch          protocol error      certificate refused
//	no-cipher         –                     handshake failure   handshake failure
//	no-version        –                     protocol version    protocol version
//	expired           expired               expired             certificate refused
//	not-yet-valid     not yet valid         not yet valid       certificate refused
//	wrong-name        –                     name mismatch       certificate refused
//	self-signed       self-signed           self-signed         certificate refused
//	swapped           swapped               –                   –
//	wrong-parameters  option MaxVersion     –                   –
//	missing           file missing          –                   –
//	unreadable        file unreadable       –                   –
//	ws-to-wss         –                     HTTP status 400     plaintext client
//	wss-to-ws         –                     plaintext answered  TLS, where there is none
//
// With -fault it makes one, and shows in full what both say. With -listen it serves until it is
// told to end (SIGINT or SIGTERM), with certificates of files, which are read again when they
// change, or without TLS to a proxy that has it:
//
//	go run ./examples/websocket-wss -listen 127.0.0.1:9502 -cert fullchain.pem -key privkey.pem
//	go run ./examples/websocket-wss -listen 127.0.0.1:9501 -behind 127.0.0.1
//
// faults.go makes the mistakes, demonstration.go looks at them, nginx.conf is for the proxy.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/whorl-go/whorl/internal/examples/serving"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/websocket"
)

func main() { program.Main("websocket-wss", run) }

// run serves on -listen until ctx is done; without -listen it shows the faults.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("websocket-wss", flag.ContinueOnError)
	listen := serving.ListenFlag(flags, 9502)
	certFile := flags.String("cert", "", "`file` with the certificate and its intermediates, PEM")
	keyFile := flags.String("key", "", "`file` with the certificate's key; without it that of -cert")
	behind := flags.String("behind", "", "`addresses` of proxies that end TLS, such as "+
		"127.0.0.1,10.0.0.0/8: serve ws to them")
	name := flags.String("fault", "", "`name` of a fault to show: "+faultNames())
	if err := program.Parse(flags, args, stdout); err != nil {
		return err
	}
	switch {
	case *listen == "" && (*certFile != "" || *behind != ""):
		return program.Usage("-cert and -behind are for -listen")
	case *listen != "" && (*certFile == "") == (*behind == ""):
		return program.Usage("-listen wants -cert or -behind")
	case *keyFile != "" && *certFile == "":
		return program.Usage("-key is for -cert")
	case *listen != "" && *name != "":
		return program.Usage("-fault and -listen exclude each other")
	}
	if *listen == "" {
		shown, err := chosen(*name)
		if err != nil {
			return err
		}
		return demonstrate(stdout, shown)
	}
	config := echo()
	network, scheme := "tcp", "ws"
	if *behind != "" {
		config.TrustedProxies = strings.Split(*behind, ",")
	} else {
		network, scheme = "tls", "wss"
		var err error
		if config.Server.Certificates, err = checked(*certFile, *keyFile); err != nil {
			return err
		}
		config.Server.ReloadOnHangup = true
	}
	example := serving.Example[*server.Listener]{
		Listen: *listen, Network: network, Server: websocket.NewServer(config),
		Begin: func(_ context.Context, l *server.Listener) (string, error) {
			return fmt.Sprintf("Echo on %s://%v/\n", scheme, l.Addr()), nil
		},
	}
	return example.Run(ctx, stdout)
}

// checked reads the files and looks at them as clients will.
func checked(certFile, keyFile string) (*tlsconfig.Server, error) {
	certificates, err := tlsconfig.NewServer(tlsconfig.ServerOptions{
		Certificates: []tlsconfig.ServerCertificate{{CertFile: certFile, KeyFile: keyFile}},
	})
	if err != nil {
		return nil, err
	}
	for _, warning := range certificates.Warnings() {
		fmt.Fprintln(os.Stderr, "websocket-wss: warning:", warning)
	}
	return certificates, nil
}

// echo is the server: it sends back each message, and says where it has come from.
func echo() websocket.Config {
	return websocket.Config{Options: websocket.Options{
		OnMessage: func(_ context.Context, c *websocket.Conn, m websocket.Message) {
			c.Push(fmt.Appendf(nil, "%v says: %s", c.RemoteAddr(), m.Data), m.Opcode)
		},
	}}
}

func faultNames() string {
	var names []string
	for _, f := range faults {
		names = append(names, f.name)
	}
	return strings.Join(names, ", ")
}

// chosen returns the fault of a name, or all.
func chosen(name string) ([]fault, error) {
	if name == "" {
		return faults, nil
	}
	for _, f := range faults {
		if f.name == name {
			return []fault{f}, nil
		}
	}
	return nil, program.Usage("-fault %q: must be one of %s", name, faultNames())
}

// Hooks-http runs net/http's own server and client, unchanged, over Whorl's loops: requests in
// plaintext and over TLS with HTTP/2, from many coroutines at once.
//
//	go run ./examples/hooks-http
//
// It needs no network: the server listens on the loopback, and its certificate is from an authority
// that is made for the occasion. It ends by itself.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func main() { program.Main("hooks-http", program.WithoutFlags("hooks-http", run)) }

func run(out io.Writer) error {
	return runtime.Run(func(ctx context.Context) error { return serveAndCall(ctx, out) })
}

// callers is how many coroutines make requests at once, and requests how many each makes.
const (
	callers  = 50
	requests = 20
)

func serveAndCall(ctx context.Context, out io.Writer) error {
	certificate, roots, err := identity()
	if err != nil {
		return err
	}
	plain, err := listen(ctx, nil)
	if err != nil {
		return err
	}
	defer plain.stop(ctx)
	secure, err := listen(ctx, &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		return err
	}
	defer secure.stop(ctx)

	transport := &http.Transport{
		DialContext:       new(hooks.Dialer).DialContext, // all that has to be said
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2: true,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	for _, base := range []string{plain.url, secure.url} {
		if err := load(ctx, out, client, base); err != nil {
			return err
		}
	}
	return nil
}

// server is one of net/http's, over a hooked listener.
type server struct {
	http.Server
	url string
}

// listen starts a server, with TLS if there is a config.
func listen(ctx context.Context, config *tls.Config) (*server, error) {
	l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{url: "http://" + l.Addr().String()}
	s.Handler, s.TLSConfig, s.ReadHeaderTimeout = http.HandlerFunc(greet), config, 10*time.Second
	if config == nil {
		go s.Serve(l) // goroutines and coroutines may use hooked connections alike
	} else {
		s.url = "https://" + l.Addr().String()
		go s.ServeTLS(l, "", "")
	}
	return s, nil
}

// stop closes the server. Close waits for Serve to return, so it must not be called on a loop.
func (s *server) stop(ctx context.Context) {
	runtime.Await(ctx, func() (struct{}, error) { return struct{}{}, s.Close() })
}

// load has many coroutines make requests, and prints what came of them.
func load(ctx context.Context, out io.Writer, client *http.Client, base string) error {
	begun := time.Now()
	answers, err := runtime.Map(
		ctx,
		make([]struct{}, callers),
		func(ctx context.Context, _ struct{}) (answer string, err error) {
			for range requests {
				if answer, err = get(ctx, client, base+"/coroutine"); err != nil {
					return "", err
				}
			}
			return answer, nil
		},
	)
	if err != nil {
		return err
	}
	elapsed := time.Since(begun)
	fmt.Fprintf(
		out,
		"%s: %d requests from %d coroutines in %v; the last answer: %s\n",
		base,
		callers*requests,
		callers,
		elapsed.Round(time.Millisecond),
		answers[callers-1],
	)
	return nil
}

// get makes a request. net/http waits for its own goroutines, on Go channels, which must not be
// done on a loop: Await does it elsewhere, and parks the coroutine.
func get(ctx context.Context, client *http.Client, url string) (string, error) {
	return runtime.Await(ctx, func() (string, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return "", err
		}
		response, err := client.Do(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err == nil && response.StatusCode != http.StatusOK {
			err = errors.New(response.Status)
		}
		return string(body), err
	})
}

func greet(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "hello, %s, over %s", r.URL.Path[1:], r.Proto)
}

// identity makes a certificate for the loopback, and the authority to trust.
func identity() (tls.Certificate, *x509.CertPool, error) {
	ca, err := devca.New("Whorl example CA")
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	certificate, err := ca.Issue("127.0.0.1")
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())
	return certificate, roots, nil
}

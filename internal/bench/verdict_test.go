//go:build linux

package bench

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/whorl-go/whorl/internal/bench/farside"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

func TestClientCertificates(t *testing.T) {
	ca := authority(t)
	address, _ := serving(t, farside.Config{Role: farside.Echo,
		TLS: &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()}})
	o := options(Handshake, address)
	o.TLS = trusting(t)
	cert, err := ca.Sign(devca.Request{CommonName: "client", Client: true})
	check(t, err)
	o.TLS.Certificates = []tls.Certificate{cert}
	if r := faultless(t, o); r.Operations != 20 {
		t.Errorf("%d operations", r.Operations)
	}
	for _, firstByte := range []bool{false, true} {
		o.TLS, o.FirstByte = trusting(t), firstByte
		_, err := Run(t.Context(), o)
		refused, ok := errors.AsType[*explain.HandshakeError](err)
		if !ok || refused.ID != explain.IDClientCertRequired {
			t.Errorf("without a certificate, first byte %v: %v", firstByte, err)
		}
	}
}

// Under TLS 1.3 the client's handshake has ended when the server refuses its certificate.
func TestAHandshakeThatIsRefusedAfterwardsHasFailed(t *testing.T) {
	cert, err := authority(t).Issue("127.0.0.1")
	check(t, err)
	address := scripted(t, func(number int, conn net.Conn) {
		secure := tls.Server(conn, &tls.Config{
			Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert,
			VerifyConnection: func(tls.ConnectionState) error {
				if number == 0 { // the trial
					return nil
				}
				return errors.New("not you")
			},
		})
		secure.Handshake()
		io.Copy(io.Discard, secure)
	})
	o := options(Handshake, address)
	o.TLS, o.Operations = trusting(t), 8
	mine, err := authority(t).Sign(devca.Request{CommonName: "client", Client: true})
	check(t, err)
	o.TLS.Certificates = []tls.Certificate{mine}
	if r := bench(t, o); r.Operations != 0 || len(r.Errors) != 1 ||
		r.Errors["tls: "+string(explain.ReasonClientCertRefused)] != 8 {
		t.Errorf("%d operations, errors %v, such as %v", r.Operations, r.Errors, r.Examples)
	}
}

// A server that asks for certificates, gives no tickets and doesn't speak first says nothing by
// which to tell. The handshakes count, up to their own end, and the run says so.
func TestAVerdictThatDoesNotComeIsSaid(t *testing.T) {
	address, _ := serving(t, farside.Config{
		Role: farside.Echo, TLS: &tls.Config{ClientAuth: tls.RequestClientCert,
			SessionTicketsDisabled: true},
	})
	o := options(Handshake, address)
	o.TLS = trusting(t)
	r := faultless(t, o)
	if r.Operations != 20 || !hasNote(r, "after 20 handshakes it has said nothing") ||
		r.Phases["verdict"].Count != 0 {
		t.Errorf("%d operations, phases %v, notes %q", r.Operations, r.Phases, r.Notes)
	}
	if most := r.Phases["tls"].Max +
		r.Phases["connect"].Max; r.Latency.Max > most+float64(leastVerdictPatience) {
		t.Errorf("operations of up to %v ns, with handshakes of up to %v", r.Latency.Max, most)
	}
}

// The ticket and the end of the stream come together.
func TestATicketBeforeTheEndIsATicket(t *testing.T) {
	cert, err := authority(t).Issue("127.0.0.1")
	check(t, err)
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	address := scripted(t, func(_ int, conn net.Conn) {
		secure := tls.Server(conn, config)
		if secure.Handshake() == nil {
			secure.Close()
		}
	})
	o := options(Handshake, address)
	o.Resume, o.TLS, o.Operations = 1, trusting(t), 8
	if r := faultless(t, o); r.TLS.Resumed != 1 || r.Operations != 8 {
		t.Errorf("%d operations, %+v", r.Operations, r.TLS)
	}
}

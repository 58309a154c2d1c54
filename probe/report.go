package probe

import (
	"strings"
	"time"

	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// Schema is the address of the JSON Schema that a Report follows.
const Schema = "https://github.com/whorl-go/whorl/blob/main/docs/probe.schema.json"

// A Report is what a probe has found.
//
// What the server says of itself is in it quoted, cut, and without control characters. It is not
// to be believed before it is verified.
type Report struct {
	Schema    string    `json:"schema"`
	Target    *Target   `json:"target,omitempty"` // nil for files
	Files     *FileSet  `json:"files,omitempty"`  // nil for a server
	Began     time.Time `json:"began"`
	Seconds   float64   `json:"seconds"`
	Reachable bool      `json:"reachable"` // an address has taken a connection
	Layers    []Layer   `json:"layers"`
	Findings  []Finding `json:"findings"` // in the order of the layers

	Addresses    []Address     `json:"addresses,omitempty"`
	Greeting     string        `json:"greeting,omitempty"` // what came first, in plaintext
	Session      *Session      `json:"session,omitempty"`
	Certificates []Certificate `json:"certificates,omitempty"` // as they were sent
	Offers       *Offers       `json:"offers,omitempty"`
	Answer       *Answer       `json:"answer,omitempty"`
	Injection    *Injection    `json:"injection,omitempty"`
	Policy       Policy        `json:"policy,omitempty"`
}

// FileSet is the files that were looked at.
type FileSet struct {
	Cert string `json:"cert"`
	Key  string `json:"key,omitempty"`
	Host string `json:"host,omitempty"`
}

// Severity of a finding.
type Severity string

// The severities.
const (
	Info    Severity = "info"    // good to know
	Warning Severity = "warning" // works, or works with some clients
	Error   Severity = "error"   // doesn't work, or isn't safe
)

// A Finding is something that is wrong, or good to know.
type Finding struct {
	ID       explain.ID `json:"id"`
	Severity Severity   `json:"severity"`
	Layer    string     `json:"layer"`
	Evidence string     `json:"evidence"` // one line
	Mend     string     `json:"mend"`     // one sentence
}

// The layers, from below upwards.
const (
	layerFiles     = "files"
	layerDNS       = "dns"
	layerTCP       = "tcp"
	layerGreeting  = "greeting"
	layerStartTLS  = "starttls"
	layerHandshake = "handshake"
	layerChain     = "chain"
	layerName      = "name"
	layerDates     = "dates"
	layerClient    = "client certificate"
	layerOffers    = "offers"
	layerAnswer    = "answer"
	layerInjection = "injection"
	layerPolicy    = "policy"
)

// A Layer is one of the steps.
type Layer struct {
	Name    string  `json:"name"`
	Status  Status  `json:"status"`
	Detail  string  `json:"detail,omitempty"` // one line
	Seconds float64 `json:"seconds"`
}

// Status of a layer.
type Status string

// What may have become of a layer.
const (
	Passed Status = "passed"
	Failed Status = "failed"
)

// An Address is one of the target's.
type Address struct {
	Address string  `json:"address"`
	Open    bool    `json:"open"`
	Error   string  `json:"error,omitempty"`
	Seconds float64 `json:"seconds"` // to the connection, or to the error
}

// A Session is what a handshake has agreed on.
type Session struct {
	Version string `json:"version"`
	Suite   string `json:"suite"`
	Group   string `json:"group,omitempty"` // empty where the server's RSA key was used for it
	ALPN    string `json:"alpn,omitempty"`
	// Retried says that the server asked for another group than the client had guessed.
	Retried bool `json:"retried"`
}

// A Certificate is one of those that the server has sent.
type Certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Names     []string  `json:"names,omitempty"` // the first 100
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Key       string    `json:"key"`       // "RSA 2048", "ECDSA P-256", "Ed25519"
	Signature string    `json:"signature"` // "SHA256-RSA"
	SHA256    string    `json:"sha256"`    // of the certificate
	SPKI      string    `json:"spki_sha256"`
	CA        bool      `json:"ca"`
}

// Taken says whether the server takes something.
type Taken string

// Whether the server takes something.
const (
	Yes      Taken = "yes"
	No       Taken = "no"
	Untested Taken = "untested" // Note says why
)

// A Choice is something that a client may offer.
type Choice struct {
	Name  string `json:"name"`
	Taken Taken  `json:"taken"`
	Note  string `json:"note,omitempty"`
}

// Offers is what the server takes.
type Offers struct {
	Versions []Choice `json:"versions"` // newest first
	Suites   []Choice `json:"suites"`   // in the server's order for what it was offered
	Groups   []Choice `json:"groups"`   // post-quantum first
	ALPN     []Choice `json:"alpn"`

	// WithoutSNI is what a client gets that names no host: "the same certificate", "another
	// certificate …", "refused: …". Empty for a target by address, which has no SNI anyway.
	WithoutSNI string `json:"without_sni,omitempty"`

	ClientCertificate ClientCertificate `json:"client_certificate"`

	// Resumption says whether the server takes a session back that it gave. It is untested where
	// there is none, as the server refuses this client, and where crypto/tls doesn't offer it, as
	// the certificate has ended.
	Resumption Taken  `json:"resumption"`
	Staple     Staple `json:"ocsp_staple"`
}

// ClientCertificate says whether the server asks for one.
type ClientCertificate struct {
	Asked bool `json:"asked"`
	// Required is untested where the server was shown one, or may have refused for lack of one.
	Required    Taken    `json:"required"`
	Authorities []string `json:"authorities,omitempty"` // whose it wants, the first 20
}

// A Staple is the server's answer of OCSP about its own certificate.
type Staple struct {
	Sent       bool       `json:"sent"`
	Status     string     `json:"status,omitempty"` // good, revoked, unknown, unreadable
	ThisUpdate *time.Time `json:"this_update,omitempty"`
	NextUpdate *time.Time `json:"next_update,omitempty"`
}

// An Answer is what was said over TLS.
type Answer struct {
	Protocol string `json:"protocol,omitempty"` // "HTTP", "WebSocket", "SMTP", … as far as known
	Text     string `json:"text"`               // the first line
	Status   int    `json:"status,omitempty"`   // HTTP's
	Location string `json:"location,omitempty"` // HTTP's, of a redirection
	// Body is what an error of HTTP says: the first line of text, or the title of a page.
	Body        string `json:"body,omitempty"`
	Subprotocol string `json:"subprotocol,omitempty"` // a WebSocket's, that the server chose
}

// An Injection is what became of a command that was sent in plaintext behind STARTTLS.
type Injection struct {
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"`
}

// Verdict of the test for injection.
type Verdict string

// What may come out of the test for injection.
const (
	Safe         Verdict = "safe"
	Vulnerable   Verdict = "vulnerable"
	Inconclusive Verdict = "inconclusive"
)

// Exit statuses of whorl probe.
const (
	ExitFine        = 0
	ExitFindings    = 1 // there is a warning or an error
	ExitUnreachable = 2 // no address takes a connection
	ExitUsage       = 3 // the command line is wrong
)

// ExitStatus returns ExitFine, ExitFindings or ExitUnreachable.
func (r *Report) ExitStatus() int {
	if !r.Reachable && r.Target != nil {
		return ExitUnreachable
	}
	for _, finding := range r.Findings {
		if finding.Severity != Info {
			return ExitFindings
		}
	}
	return ExitFine
}

// Has returns the finding with that ID, nil if there is none.
func (r *Report) Has(id explain.ID) *Finding {
	for i := range r.Findings {
		if r.Findings[i].ID == id {
			return &r.Findings[i]
		}
	}
	return nil
}

// add adds a finding. Of two with one ID the first one stays, as severe as the other is.
func (r *Report) add(finding Finding) {
	switch had := r.Has(finding.ID); {
	case had == nil:
		r.Findings = append(r.Findings, finding)
	case had.Severity != Error && finding.Severity == Error:
		had.Severity = Error
	}
}

// outcome is what has become of a layer with these findings: it has failed if there is an error
// among them. Fine is what to say else.
func outcome(fine string, findings []Finding) (status Status, detail string) {
	var wrong []string
	for _, finding := range findings {
		if finding.Severity == Error {
			wrong = append(wrong, finding.Evidence)
		}
	}
	if wrong == nil {
		return Passed, fine
	}
	return Failed, strings.Join(wrong, "; ")
}

// step adds findings, and notes that the layer in which they were made is over.
func (r *Report) step(name, fine string, findings []Finding, began time.Time) {
	for _, finding := range findings {
		r.add(finding)
	}
	status, detail := outcome(fine, findings)
	r.layer(name, status, detail, began)
}

// fail notes that a layer has failed which seemed to have passed.
func (r *Report) fail(name, detail string) {
	for i := range r.Layers {
		if layer := &r.Layers[i]; layer.Name == name {
			layer.Status, layer.Detail = Failed, detail
		}
	}
}

// layer notes that a step is over.
func (r *Report) layer(name string, status Status, detail string, began time.Time) {
	r.Layers = append(r.Layers, Layer{
		Name: name, Status: status, Detail: detail, Seconds: time.Since(began).Seconds(),
	})
}

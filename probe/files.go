package probe

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/tlsconfig"
)

// FilesOptions say what to compare files with.
type FilesOptions struct {
	Host       string // that the certificate is for; empty: any
	Passphrase string // of the key

	// Roots are the authorities that clients trust; nil: the system's.
	Roots *x509.CertPool
}

// Files looks at a certificate's file, with its intermediates, and at the file of its key, as a
// server would be given them. Key may be empty: then the key is not looked at if it isn't in the
// certificate's file. What is wrong is in the report; the error says that ctx is done.
func Files(ctx context.Context, cert, key string, options FilesOptions) (*Report, error) {
	began := time.Now()
	r := &Report{
		Schema: Schema, Files: &FileSet{Cert: cert, Key: key, Host: options.Host},
		Began: began.UTC(), Layers: []Layer{}, Findings: []Finding{},
	}
	_, err := runtime.Await(ctx, func() (struct{}, error) {
		r.files(cert, key, options)
		return struct{}{}, nil
	})
	if err != nil {
		return nil, err
	}
	r.Seconds = time.Since(began).Seconds()
	return r, nil
}

func (r *Report) files(cert, key string, options FilesOptions) {
	began := time.Now()
	pair := tlsconfig.ServerCertificate{
		CertFile: cert, KeyFile: key, Passphrase: options.Passphrase,
	}
	if options.Host != "" {
		pair.Names = []string{options.Host}
	}
	chain, problems := tlsconfig.Inspect(pair, options.Roots)
	var findings []Finding
	for _, problem := range problems {
		findings = append(findings, ofFile(problem, layerFiles))
	}
	r.step(layerFiles, "certificate and key fit", findings, began)
	if len(chain) == 0 {
		return
	}
	for _, cert := range chain {
		r.Certificates = append(r.Certificates, describe(cert))
	}
	v := &verdict{
		chain: chain, name: options.Host, roots: options.Roots, now: time.Now(), file: true,
	}
	r.Layers = append(r.Layers, v.layers()...)
	for _, finding := range v.findings {
		r.add(finding)
	}
}

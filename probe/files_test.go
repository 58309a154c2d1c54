//go:build linux

package probe_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/youmark/pkcs8"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// Rows 12, 14 and 15, and those of a certificate, without a connection.
func TestFiles(t *testing.T) {
	t.Parallel()
	from, to := hour()
	ca := tlstest.NewCA(t)
	middle := tlstest.Intermediate(t, ca, "Middle", from, to)
	leaf := tlstest.Issued(t, middle, name)
	full := leaf
	full.Certificate = append([][]byte{leaf.Certificate[0]}, middle.Cert.Raw)
	turned := leaf
	turned.Certificate = [][]byte{middle.Cert.Raw, leaf.Certificate[0]}
	public := tlstest.Custom(t, middle, &x509.Certificate{
		DNSNames: []string{name}, IssuingCertificateURL: []string{"http://ca.test/middle.crt"},
	})
	cert, key := tlstest.Pair(t, full)
	pair := func(cert tls.Certificate) [2]string {
		c, k := tlstest.Pair(t, cert)
		return [2]string{c, k}
	}
	files := func(cert, key string) [2]string { return [2]string{cert, key} }
	_, foreign := tlstest.Pair(t, tlstest.Issued(t, ca, "other.test"))
	_, rsaKey := tlstest.Pair(t, shortKey(t, ca, 2048))
	locked, err := pkcs8.MarshalPrivateKey(full.PrivateKey, []byte("open sesame"), nil)
	if err != nil {
		t.Fatal(err)
	}
	shut := tlstest.File(t, "locked.pem", pem.EncodeToMemory(&pem.Block{
		Type: "ENCRYPTED PRIVATE KEY", Bytes: locked,
	}))
	encrypted := tlstest.File(t, "key.pem", pem.EncodeToMemory(&pem.Block{
		Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{0x30, 0},
	}))

	for _, test := range []struct {
		row   string
		files [2]string
		id    explain.ID
		words []string
	}{
		{"1 incomplete", pair(public), explain.IDChainIncomplete, []string{"fullchain.pem"}},
		{"4 expired", pair(tlstest.Signed(t, ca,
			devca.Request{Names: []string{name}, NotAfter: from})), explain.IDCertExpired, nil},
		{"6 another name", pair(tlstest.Issued(t, ca, "a.test")), explain.IDNameMismatch,
			[]string{name}},
		{"8 common name", pair(tlstest.Signed(t, ca, devca.Request{CommonName: name})),
			explain.IDNameCommonName, nil},
		{"9 usage", pair(tlstest.Signed(t, ca, devca.Request{Names: []string{name}, Client: true})),
			explain.IDCertUsage, nil},
		{"12 another key", files(cert, foreign), explain.IDKeyMismatch, []string{"SPKI"}},
		{"12 a key of another kind", files(cert, rsaKey), explain.IDKeyMismatch, nil},
		{"12 leaf not first", pair(turned), explain.IDChainLeafNotFirst, []string{"first"}},
		{"12 swapped", files(key, cert), explain.IDFilesSwapped, nil},
		{"12 no key", files(cert, cert), explain.IDFileNotPEM, []string{"no private key"}},
		{"14 encrypted key", files(cert, encrypted), explain.IDKeyEncrypted,
			[]string{"passphrase"}},
		{"14 damaged key", files(cert, tlstest.File(t, "key.pem",
			pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}))),
			explain.IDKeyUnreadable, nil},
		{"15 no file", files(filepath.Join(t.TempDir(), "none.pem"), key), explain.IDFileMissing,
			[]string{"none.pem"}},
		{"15 no key file", files(cert, filepath.Join(t.TempDir(), "none.key")),
			explain.IDFileMissing, []string{"none.key"}},
		{"15 a folder", files(t.TempDir(), key), explain.IDFileUnreadable, nil},
		{"no PEM", files(tlstest.File(t, "cert.der", leaf.Certificate[0]), key),
			explain.IDFileNotPEM, []string{"DER"}},
	} {
		t.Run(test.row, func(t *testing.T) {
			report, err := probe.Files(
				t.Context(),
				test.files[0],
				test.files[1],
				probe.FilesOptions{
					Host: name, Roots: ca.Pool(),
				},
			)
			if err != nil {
				t.Fatal(err)
			}
			checkReport(t, report)
			want(t, report, test.id, test.words...)
			if report.ExitStatus() != probe.ExitFindings {
				t.Errorf("exit status %d", report.ExitStatus())
			}
		})
	}
	for passphrase, key := range map[string]string{"": key, "open sesame": shut} {
		report, err := probe.Files(t.Context(), cert, key,
			probe.FilesOptions{Host: name, Roots: ca.Pool(), Passphrase: passphrase})
		if err != nil {
			t.Fatal(err)
		}
		checkReport(t, report)
		wantNothing(t, report)
		if len(report.Certificates) != 2 {
			t.Errorf("%+v", report.Certificates)
		}
	}
	report, err := probe.Files(t.Context(), cert, shut,
		probe.FilesOptions{Host: name, Roots: ca.Pool(), Passphrase: "close sesame"})
	if err != nil {
		t.Fatal(err)
	}
	wantOnly(t, report, explain.IDKeyPassphrase, "passphrase")
}

// Files are no server: nobody has sent them, and there is a name only if it was given.
func TestFilesAreSpokenOfAsFiles(t *testing.T) {
	t.Parallel()
	from, to := hour()
	ca, private := tlstest.NewCA(t), tlstest.NamedCA(t, "Corporate Root")
	middle := tlstest.Intermediate(t, private, "Middle", from, to)
	full := tlstest.Issued(t, middle, name)
	full.Certificate = append(full.Certificate, middle.Cert.Raw)
	for _, cert := range []tls.Certificate{
		tlstest.Issued(t, private, name), full, selfSigned(name),
		tlstest.Issued(t, ca, "a.test"), tlstest.Custom(t, ca, &x509.Certificate{}),
		tlstest.Signed(t, ca, devca.Request{Names: []string{name}, NotAfter: from}),
		tlstest.Issued(t, middle, name),
	} {
		file, key := tlstest.Pair(t, cert)
		for _, host := range []string{"", name} {
			roots := ca.Pool()
			if len(cert.Certificate) == 1 && cert.Leaf.Issuer.CommonName == "Middle" {
				roots = private.Pool()
				roots.AddCert(middle.Cert) // complete only with what is trusted
			}
			report, err := probe.Files(t.Context(), file, key,
				probe.FilesOptions{Host: host, Roots: roots})
			if err != nil {
				t.Fatal(err)
			}
			checkReport(t, report)
			said := strings.ReplaceAll(summary(report), "the server's certificate", "")
			said = strings.ReplaceAll(said, "for TLS servers", "")
			if strings.Contains(said, "server") || strings.Contains(said, "sent") {
				t.Errorf("there is no server: %s", said)
			}
			named := slices.ContainsFunc(report.Layers, func(l probe.Layer) bool {
				return l.Name == "name"
			})
			if named != (host != "") {
				t.Errorf("host %q: %s", host, summary(report))
			}
		}
	}
	// The line of the files has all that is wrong with them.
	file, _ := tlstest.Pair(t, tlstest.Issued(t, ca, "a.test"))
	_, key := tlstest.Pair(t, tlstest.Issued(t, ca, "b.test"))
	report, err := probe.Files(t.Context(), file, key,
		probe.FilesOptions{Host: name, Roots: ca.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	detail := layer(t, report, "files").Detail
	for _, id := range []explain.ID{explain.IDKeyMismatch, explain.IDNameMismatch} {
		if want(t, report, id); !strings.Contains(detail, report.Has(id).Evidence) {
			t.Errorf("%s isn't in %q", id, detail)
		}
	}
}

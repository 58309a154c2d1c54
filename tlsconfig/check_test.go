package tlsconfig

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/youmark/pkcs8"

	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// chainPEM returns certificates as PEM, in this order.
func chainPEM(certs ...*x509.Certificate) (data []byte) {
	for _, cert := range certs {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: cert.Raw})...)
	}
	return data
}

func keyPEM(t testing.TB, cert tls.Certificate) []byte {
	t.Helper()
	_, key, err := devca.EncodePEM(cert)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// checkCertificateError fails the test unless err is a *CertificateError with that reason and these
// words, on one line.
func checkCertificateError(t testing.TB, err error, reason explain.Reason, words ...string) {
	t.Helper()
	e, ok := errors.AsType[*CertificateError](err)
	if !ok || e.Reason != reason {
		t.Errorf("got %v, want %q", err, reason)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%v does not say %q", err, word)
		}
	}
	tlstest.CheckLine(t, err.Error())
}

func TestServerFilesThatCannotBeUsed(t *testing.T) {
	ca := tlstest.NewCA(t)
	cert, other := tlstest.Issued(t, ca, "mail.test"), tlstest.Issued(t, ca, "other.test")
	chain, key := chainPEM(cert.Leaf), keyPEM(t, cert)
	lockedDER, err := pkcs8.MarshalPrivateKey(cert.PrivateKey, []byte("open sesame"), nil)
	if err != nil {
		t.Fatal(err)
	}
	locked := pem.EncodeToMemory(&pem.Block{Type: encryptedKeyBlock, Bytes: lockedDER})
	sec1, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 Deprecated for new files; the test needs an old one.
	oldBlock, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", sec1, []byte("open sesame"), x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	old := pem.EncodeToMemory(oldBlock)
	broken := []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	nowhere := filepath.Join(t.TempDir(), "link.pem")
	if err := os.Symlink("gone.pem", nowhere); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	large := tlstest.File(t, "large.pem", nil)
	if err := os.Truncate(large, maxFile+1); err != nil {
		t.Fatal(err)
	}
	is := func(data []byte) string { return tlstest.File(t, "x.pem", data) }

	for name, test := range map[string]struct {
		cert, key, passphrase string
		reason                explain.Reason
		words                 []string
	}{
		"missing":                {"/nonexistent/cert.pem", is(key), "", explain.ReasonFileMissing, []string{"/nonexistent/cert.pem"}},
		"key missing":            {is(chain), "/nonexistent/key.pem", "", explain.ReasonFileMissing, []string{"/nonexistent/key.pem", "correct the path"}},
		"link to nowhere":        {nowhere, is(key), "", explain.ReasonFileMissing, []string{`link to "gone.pem"`}},
		"folder":                 {t.TempDir(), is(key), "", explain.ReasonFileUnreadable, []string{"is a directory"}},
		"pipe":                   {pipe, is(key), "", explain.ReasonFileUnreadable, []string{"no regular file"}},
		"large":                  {large, is(key), "", explain.ReasonFileUnreadable, []string{"larger than 16 MiB"}},
		"empty":                  {is(nil), is(key), "", explain.ReasonNotPEM, []string{"the file is empty"}},
		"text":                   {is([]byte("hello")), is(key), "", explain.ReasonNotPEM, []string{"not PEM"}},
		"DER":                    {is(cert.Leaf.Raw), is(key), "", explain.ReasonNotPEM, []string{"DER", "openssl x509 -inform der"}},
		"key as DER":             {is(chain), is(sec1), "", explain.ReasonNotPEM, []string{"DER", "openssl pkey -inform der"}},
		"swapped":                {is(key), is(chain), "", explain.ReasonSwapped, []string{"exchange"}},
		"no key":                 {is(chain), is(chain), "", explain.ReasonNotPEM, []string{"no private key", `"CERTIFICATE"`}},
		"no key in the one file": {is(chain), "", "", explain.ReasonNotPEM, []string{"no private key"}},
		"no certificate":         {is(key), is(key), "", explain.ReasonNotPEM, []string{"no certificate", `"PRIVATE KEY"`}},
		"broken":                 {is(append(bytes.Clone(chain), broken...)), is(key), "", explain.ReasonUnreadableCertificate, []string{"certificate 2"}},
		"bundle":                 {is(bytes.Repeat(chain, maxChain+1)), is(key), "", explain.ReasonInvalidChain, []string{"33 certificates", "bundle"}},
		"locked":                 {is(chain), is(locked), "", explain.ReasonKeyEncrypted, []string{"ssl_passphrase", "openssl pkey"}},
		"locked, old":            {is(chain), is(old), "", explain.ReasonKeyEncrypted, nil},
		"wrong passphrase":       {is(chain), is(locked), "close sesame", explain.ReasonWrongPassphrase, nil},
		"wrong passphrase, old":  {is(chain), is(old), "close sesame", explain.ReasonWrongPassphrase, nil},
		"broken key": {is(chain), is([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")), "",
			explain.ReasonUnreadableKey, []string{"openssl pkey"}},
		"broken locked key": {is(chain), is([]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")), "open sesame",
			explain.ReasonUnreadableKey, nil},
		"another key": {is(chain), is(keyPEM(t, other)), "", explain.ReasonKeyMismatch,
			[]string{text.Fingerprint(cert.Leaf.RawSubjectPublicKeyInfo), text.Fingerprint(other.Leaf.RawSubjectPublicKeyInfo)}},
		"leaf second": {is(chainPEM(ca.Cert, cert.Leaf)), is(key), "", explain.ReasonLeafNotFirst, []string{"the leaf must come first", "certificate 2"}},
	} {
		_, err := NewServer(ServerOptions{Certificates: []ServerCertificate{{CertFile: test.cert, KeyFile: test.key, Passphrase: test.passphrase}}})
		t.Run(name, func(t *testing.T) { checkCertificateError(t, err, test.reason, test.words...) })
		if err != nil && test.passphrase != "" && strings.Contains(err.Error(), test.passphrase) {
			t.Errorf("%s: the passphrase is in the error: %v", name, err)
		}
	}

	for name, c := range map[string]ServerCertificate{
		"one file":           {CertFile: is(append(bytes.Clone(key), chain...))},
		"PEM":                {CertPEM: chain, KeyPEM: key},
		"one PEM":            {CertPEM: append(bytes.Clone(chain), key...)},
		"locked":             {CertPEM: chain, KeyPEM: locked, Passphrase: "open sesame"},
		"locked, old":        {CertPEM: chain, KeyPEM: old, Passphrase: "open sesame"},
		"needless, unlocked": {CertPEM: chain, KeyPEM: key, Passphrase: "open sesame"},
	} {
		s, err := NewServer(ServerOptions{Certificates: []ServerCertificate{c}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if m := tlstest.Meet(t, trusting(ca, "mail.test"), s.Config()); m.ClientErr != nil {
			t.Errorf("%s: %v", name, m.ClientErr)
		}
	}
	_, err = NewServer(ServerOptions{Certificates: []ServerCertificate{{CertFile: "/nonexistent"}}})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is no fs.ErrNotExist", err)
	}
}

// Root can read everything, so this looks at the explanation alone.
func TestPermissionIsExplained(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key.pem")
	write(t, path, nil)
	uid := strconv.Itoa(os.Geteuid())
	denied := &fs.PathError{Op: "open", Path: path, Err: syscall.EACCES}
	checkCertificateError(t, fileError(path, denied), explain.ReasonFileUnreadable, "permission denied (as user "+uid, "-rw-------, owner "+uid, "let this user read")
	// A directory above it can't be passed.
	hidden := filepath.Join(dir, "live", "mail.test", "key.pem")
	checkCertificateError(t, fileError(hidden, denied), explain.ReasonFileUnreadable, "the directory "+dir+" is drwx", "owner "+uid)
	if !errors.Is(fileError(path, denied), fs.ErrPermission) {
		t.Error("no fs.ErrPermission")
	}
}

func TestReadyCertificatesAreChecked(t *testing.T) {
	ca := tlstest.NewCA(t)
	good, other := tlstest.Issued(t, ca, "mail.test"), tlstest.Issued(t, ca, "mail.test")
	for _, test := range []struct {
		cert   tls.Certificate
		reason explain.Reason
	}{
		{tls.Certificate{}, explain.ReasonUnreadableCertificate},
		{tls.Certificate{Certificate: [][]byte{{1}}}, explain.ReasonUnreadableCertificate},
		{tls.Certificate{Certificate: good.Certificate}, explain.ReasonUnreadableKey},
		{tls.Certificate{Certificate: good.Certificate, PrivateKey: other.PrivateKey}, explain.ReasonKeyMismatch},
	} {
		_, err := NewServer(ready(test.cert))
		checkCertificateError(t, err, test.reason, "certificate 1")
	}
}

// withKey returns a certificate for a key.
func withKey(t *testing.T, ca *tlstest.CA, public, private any, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "mail.test"}, DNSNames: []string{"mail.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, public, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}

func TestServerCertificatesThatClientsRefuse(t *testing.T) {
	ca := tlstest.NewCA(t)
	now := time.Now()
	sha1 := tlstest.Issued(t, ca, "mail.test")
	// To sign by SHA-1 is not possible any more, so the name of the algorithm is changed: nobody
	// has to check the signature to refuse it.
	ecdsaSHA256, ecdsaSHA1 := []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}, []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1}
	if !bytes.Contains(sha1.Leaf.Raw, ecdsaSHA256) {
		t.Fatal("not signed with ECDSA and SHA-256")
	}
	sha1.Certificate = [][]byte{resized(t, sha1.Leaf.Raw, ecdsaSHA256, ecdsaSHA1)}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cnOnly := tlstest.Custom(t, ca, &x509.Certificate{Subject: pkix.Name{CommonName: "mail.test"}})
	nobody := tlstest.Custom(t, ca, &x509.Certificate{Subject: pkix.Name{Organization: []string{"Org"}}})

	for name, test := range map[string]struct {
		cert   tls.Certificate
		names  []string
		reason explain.Reason // "": all is well
		words  []string
	}{
		"good":             {tlstest.Issued(t, ca, "mail.test"), nil, "", nil},
		"address":          {tlstest.Issued(t, ca, "192.0.2.1"), nil, "", nil},
		"Ed25519":          {withKey(t, ca, public, private, nil), nil, "", nil},
		"RSA":              {rsaCert(t, ca, 2048, "mail.test"), nil, "", nil},
		"no usage":         {withKey(t, ca, public, private, nil), nil, "", nil},
		"any usage":        {withKey(t, ca, public, private, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }), nil, "", nil},
		"expired":          {tlstest.Signed(t, ca, devca.Request{Names: []string{"mail.test"}, NotAfter: now.Add(-49 * time.Hour)}), nil, explain.ReasonExpired, []string{"2 days ago", "clock"}},
		"not yet":          {tlstest.Signed(t, ca, devca.Request{Names: []string{"mail.test"}, NotBefore: now.Add(49 * time.Hour)}), nil, explain.ReasonNotYetValid, []string{"in 2 days"}},
		"common name only": {cnOnly, nil, explain.ReasonNameMismatch, []string{`only the common name "mail.test"`, "subjectAltName"}},
		"nobody":           {nobody, nil, explain.ReasonNameMismatch, []string{"names no host"}},
		"another name":     {tlstest.Issued(t, ca, "a.test", "b.test"), []string{"a.test", "c.test"}, explain.ReasonNameMismatch, []string{`"c.test"`, `"a.test", "b.test"`}},
		"names":            {tlstest.Issued(t, ca, "a.test", "*.b.test"), []string{"a.test", "x.b.test", "*.B.test"}, "", nil},
		"wildcard":         {tlstest.Issued(t, ca, "a.test", "x.b.test"), []string{"*.b.test"}, explain.ReasonNameMismatch, []string{`"*.b.test"`}},
		"for clients":      {tlstest.Signed(t, ca, devca.Request{Names: []string{"mail.test"}, Client: true}), nil, explain.ReasonWrongUsage, []string{"serverAuth"}},
		"short key":        {rsaCert(t, ca, 1024, "mail.test"), nil, explain.ReasonWeak, []string{"1024 bits"}},
		"P-224":            {withKey(t, ca, p224.Public(), p224, nil), nil, explain.ReasonWeak, []string{"P-224"}},
		"SHA-1":            {sha1, nil, explain.ReasonWeak, []string{"ECDSA-SHA1", "SHA-256"}},
	} {
		options := ready(test.cert)
		options.Certificates[0].Names = test.names
		s, err := newServer(options, time.Now, emptyRoots)
		if test.reason == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if w := s.Warnings(); len(w) > 0 {
				t.Errorf("%s: %v", name, w)
			}
			continue
		}
		t.Run(name, func(t *testing.T) { checkCertificateError(t, err, test.reason, test.words...) })

		options.Tolerate = []explain.Reason{test.reason}
		s, err = newServer(options, time.Now, emptyRoots)
		if err != nil {
			t.Errorf("%s, tolerated: %v", name, err)
		} else if w := s.Warnings(); len(w) != 1 || w[0].Reason != test.reason {
			t.Errorf("%s, tolerated: %v", name, w)
		}
	}
}

// resized returns a certificate in which one object identifier is replaced by a shorter one. Of the
// lengths around it those that change are mended.
func resized(t *testing.T, der, old, replacement []byte) []byte {
	t.Helper()
	var cert struct{ TBS, Algorithm, Signature asn1.RawValue }
	if _, err := asn1.Unmarshal(der, &cert); err != nil {
		t.Fatal(err)
	}
	id := func(oid []byte) []byte { return append([]byte{0x30, byte(len(oid) + 2), 6, byte(len(oid))}, oid...) }
	cert.TBS.FullBytes, cert.TBS.Bytes = nil, bytes.Replace(cert.TBS.Bytes, id(old), id(replacement), 1)
	cert.Algorithm.FullBytes, cert.Algorithm.Bytes = nil, id(replacement)[2:]
	changed, err := asn1.Marshal(cert)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func TestChainsAreExamined(t *testing.T) {
	root := tlstest.NewCA(t)
	now := time.Now()
	day := func(name string, above *tlstest.CA) *tlstest.CA {
		return tlstest.Intermediate(t, above, name, now.Add(-time.Hour), now.Add(time.Hour))
	}
	upper := day("Upper", root)
	lower := day("Lower", upper)
	impostor := day("Lower", root) // the same name, another key
	stranger := day("Stranger", root)
	gone := tlstest.Intermediate(t, root, "Gone", now.Add(-2*time.Hour), now.Add(-time.Hour))
	leaf, ofGone, ofRoot := tlstest.Issued(t, lower, "mail.test"), tlstest.Issued(t, gone, "mail.test"), tlstest.Issued(t, root, "mail.test")
	public := tlstest.Custom(t, lower, &x509.Certificate{DNSNames: []string{"mail.test"}, IssuingCertificateURL: []string{"http://ca.test/lower.der"}})
	self, err := devca.SelfSigned(devca.Request{Names: []string{"mail.test"}})
	if err != nil {
		t.Fatal(err)
	}

	for name, test := range map[string]struct {
		cert  tls.Certificate
		chain []*tlstest.CA
		roots *tlstest.CA
		want  explain.Reason
		words []string
	}{
		"full":                      {leaf, []*tlstest.CA{lower, upper}, nil, "", nil},
		"full, with the root":       {leaf, []*tlstest.CA{lower, upper, root}, nil, "", nil},
		"part":                      {leaf, []*tlstest.CA{lower}, nil, "", nil},
		"private":                   {ofRoot, nil, nil, "", nil},
		"self-signed":               {self, nil, nil, explain.ReasonSelfSigned, []string{`"mail.test"`, "own key", "as an authority"}},
		"no intermediate":           {public, nil, nil, explain.ReasonIncompleteChain, []string{`"http://ca.test/lower.der"`, "fullchain.pem"}},
		"no intermediate, but root": {public, nil, lower, "", nil}, // the system trusts its issuer
		"another intermediate":      {leaf, []*tlstest.CA{stranger}, nil, explain.ReasonIncompleteChain, []string{`"Lower" is not in the file`, `"Stranger"`}},
		"impostor":                  {leaf, []*tlstest.CA{impostor, root}, nil, explain.ReasonIncompleteChain, []string{"another key"}},
		"wrong order":               {leaf, []*tlstest.CA{upper, lower}, nil, explain.ReasonOutOfOrder, []string{`"mail.test", "Lower", "Upper"`}},
		"root first":                {leaf, []*tlstest.CA{root, upper, lower}, nil, explain.ReasonOutOfOrder, []string{`"mail.test", "Lower", "Upper", "Whorl Test CA"`}},
		"stray":                     {leaf, []*tlstest.CA{lower, upper, stranger}, nil, explain.ReasonInvalidChain, []string{`"Stranger"`, "take it out"}},
		"two ways":                  {leaf, []*tlstest.CA{lower, upper, impostor}, nil, "", nil}, // a cross-signed intermediate
		"expired":                   {ofGone, []*tlstest.CA{gone}, nil, explain.ReasonExpired, []string{`intermediate certificate "Gone" ended`}},
	} {
		for _, above := range test.chain {
			test.cert.Certificate = append(test.cert.Certificate[:len(test.cert.Certificate):len(test.cert.Certificate)], above.Cert.Raw)
		}
		roots := func() (*x509.CertPool, error) {
			if test.roots != nil {
				return test.roots.Pool(), nil
			}
			return nil, errors.New("none")
		}
		s, err := newServer(ready(test.cert), time.Now, roots)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		warnings := s.Warnings()
		switch {
		case test.want == "" && len(warnings) > 0:
			t.Errorf("%s: %v", name, warnings)
		case test.want != "" && len(warnings) != 1:
			t.Errorf("%s: %v, want %q", name, warnings, test.want)
		case test.want != "":
			t.Run(name, func(t *testing.T) { checkCertificateError(t, warnings[0], test.want, test.words...) })
		}
	}
}

// What is in a file must not crash the program, whatever it is.
func FuzzServerPEM(f *testing.F) {
	ca := tlstest.NewCA(f)
	chain, key, err := devca.EncodePEM(tlstest.Issued(f, ca, "mail.test"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(chain, key)
	f.Add(append(chain, key...), []byte{})
	f.Add(append(ca.PEM(), chain...), key)
	f.Add(key, chain)
	f.Add([]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), []byte{0x30})
	f.Fuzz(func(t *testing.T, chain, key []byte) {
		s, err := newServer(ServerOptions{Certificates: []ServerCertificate{{CertPEM: chain, KeyPEM: key}}}, time.Now, emptyRoots)
		if err == nil {
			for _, warning := range s.Warnings() {
				tlstest.CheckLine(t, warning.Error())
			}
			return
		}
		tlstest.CheckLine(t, err.Error())
	})
}

package tlsconfig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/youmark/pkcs8"

	"github.com/whorl-go/whorl/internal/setting"
	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

const (
	certificateBlock  = "CERTIFICATE"
	encryptedKeyBlock = "ENCRYPTED PRIVATE KEY"

	maxChain = 32 // certificates that a server sends; a file with more is a bundle of authorities
)

// A pemPair is a certificate with its intermediates, and its key, both as PEM. Both may be the
// same.
type pemPair struct {
	cert, key         []byte
	certFile, keyFile string // where they are from, for errors
	passphrase        string
}

// loadKeyPair returns the certificate chain in certFile with the key in keyFile. Errors are
// *CertificateError.
func loadKeyPair(certFile, keyFile, passphrase string) (pair tls.Certificate, err error) {
	p := pemPair{certFile: certFile, keyFile: keyFile, passphrase: passphrase}
	if err := p.read(); err != nil {
		return pair, err
	}
	return p.parse()
}

// read reads the two files.
func (p *pemPair) read() (err error) {
	if p.cert, err = readFile(p.certFile); err != nil {
		return err
	}
	if p.keyFile == p.certFile {
		p.key = p.cert
		return nil
	}
	p.key, err = readFile(p.keyFile)
	if e, ok := errors.AsType[*CertificateError](err); ok {
		e.inKey = true
	}
	return err
}

// parse returns the chain with its key, after checking that they belong together.
func (p *pemPair) parse() (pair tls.Certificate, err error) {
	chain, err := p.chain()
	if err != nil {
		return pair, err
	}
	key, err := p.parseKey()
	if err == nil {
		err = p.matches(key, chain)
	}
	if err != nil {
		return pair, err
	}
	pair.PrivateKey = key
	pair.Leaf = chain[0]
	for _, cert := range chain {
		pair.Certificate = append(pair.Certificate, cert.Raw)
	}
	return pair, nil
}

// chain returns the certificates, of which there is at least one.
func (p *pemPair) chain() ([]*x509.Certificate, error) {
	chain, err := parseChain(p.certFile, p.cert)
	if err != nil && findKey(p.cert) != nil && pemBlocks(p.key, certificateBlock) != nil &&
		findKey(p.key) == nil {
		err = &CertificateError{
			Reason: explain.ReasonSwapped,
			File:   p.certFile,
			Detail: "the certificate's file has the key, and the key's file the certificate: they are swapped",
			Advice: "exchange the two",
			Err:    err,
		}
	}
	return chain, err
}

// pemBlocks returns the contents of all blocks of one type.
func pemBlocks(data []byte, blockType string) (contents [][]byte) {
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return contents
		}
		if block.Type == blockType {
			contents = append(contents, block.Bytes)
		}
		data = rest
	}
}

// findKey returns the first block with a private key. Others may come before it, such as EC
// PARAMETERS.
func findKey(data []byte) *pem.Block {
	for {
		block, rest := pem.Decode(data)
		if block == nil || block.Type == "PRIVATE KEY" ||
			strings.HasSuffix(block.Type, " PRIVATE KEY") {
			return block
		}
		data = rest
	}
}

// contents says what is in a file that has not what was looked for.
func contents(data []byte) string {
	block, _ := pem.Decode(data)
	switch {
	case len(data) == 0:
		return "the file is empty"
	case block != nil:
		return "the file has a PEM block of type " + text.Quoted(block.Type)
	case isDER(data):
		return "the file is not PEM, it looks like DER"
	}
	return "the file is not PEM"
}

func isDER(data []byte) bool { return len(data) > 0 && data[0] == 0x30 } // ASN.1 SEQUENCE

// pemAdvice says how to get PEM, command being the one of OpenSSL that writes it.
func pemAdvice(data []byte, command string) string {
	if block, _ := pem.Decode(data); block == nil && isDER(data) {
		return "openssl " + command + " -inform der -in FILE -out FILE.pem converts it"
	}
	return "name the file that has it, in PEM"
}

func unreadable(file string, i int, err error) error {
	return &CertificateError{
		Reason: explain.ReasonUnreadableCertificate, File: file,
		Detail: fmt.Sprintf(
			"certificate %d in the file: %s",
			i+1,
			text.Printable(err.Error(), text.MaxText),
		), Advice: "reissue it, or copy the file anew", Err: err,
	}
}

// parseChain returns the certificates in data, of which there is at least one, in their order.
func parseChain(file string, data []byte) ([]*x509.Certificate, error) {
	blocks := pemBlocks(data, certificateBlock)
	switch {
	case len(blocks) == 0:
		return nil, &CertificateError{
			Reason: explain.ReasonNotPEM,
			File:   file,
			Detail: "no certificate: " + contents(data),
			Advice: pemAdvice(data, "x509"),
		}
	case len(blocks) > maxChain:
		return nil, &CertificateError{
			Reason: explain.ReasonInvalidChain, File: file, Detail: fmt.Sprintf("the file has %d certificates, and a server sends them all", len(blocks)),
			Advice: "name the file with the server's own certificate and its intermediates, not a bundle of authorities",
		}
	}
	var chain []*x509.Certificate
	for i, der := range blocks {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, unreadable(file, i, err)
		}
		chain = append(chain, cert)
	}
	return chain, nil
}

// keyError says what is wrong with the key.
func (p *pemPair) keyError(reason explain.Reason, detail, advice string, err error) error {
	return &CertificateError{
		Reason: reason,
		File:   p.keyFile,
		Detail: detail,
		Advice: advice,
		Err:    err,
		inKey:  true,
	}
}

// parseKey returns the first private key: PKCS#8, PKCS#1 or SEC 1, in the clear or encrypted, by
// PKCS#8 or by RFC 1423.
func (p *pemPair) parseKey() (crypto.Signer, error) {
	block := findKey(p.key)
	if block == nil {
		return nil, p.keyError(
			explain.ReasonNotPEM,
			"no private key: "+contents(p.key),
			pemAdvice(p.key, "pkey"),
			nil,
		)
	}
	traditional := block.Headers["DEK-Info"] != ""
	if !traditional && block.Type != encryptedKeyBlock {
		key, err := parsePlainKey(block.Bytes)
		if err != nil {
			return nil, p.keyError(
				explain.ReasonUnreadableKey,
				text.Printable(err.Error(), text.MaxText),
				"copy the file anew; openssl pkey -in FILE -check examines it",
				err,
			)
		}
		return key, nil
	}
	if p.passphrase == "" {
		return nil, p.keyError(
			explain.ReasonKeyEncrypted,
			"the key is encrypted and there is no passphrase",
			"set "+setting.Passphrase+", or decrypt the key with openssl pkey -in FILE -out "+
				"PLAIN and protect that file by its permissions",
			nil,
		)
	}

	var key crypto.Signer
	var err error
	if traditional {
		key, err = openTraditional(block, p.passphrase)
	} else {
		key, err = openPKCS8(block.Bytes, p.passphrase)
	}
	switch {
	case errors.Is(err, errPassphrase):
		return nil, p.keyError(
			explain.ReasonWrongPassphrase,
			text.Printable(err.Error(), text.MaxText),
			"correct "+setting.Passphrase,
			err,
		)
	case err != nil:
		return nil, p.keyError(
			explain.ReasonUnreadableKey,
			text.Printable(err.Error(), text.MaxText),
			"encrypt the key anew: openssl pkcs8 -topk8 -v2 aes-256-cbc -in FILE -out NEW",
			err,
		)
	}
	return key, nil
}

var errPassphrase = errors.New("the passphrase does not open the key")

func openTraditional(block *pem.Block, passphrase string) (crypto.Signer, error) {
	//lint:ignore SA1019 Deprecated, as such a file proves nothing about who wrote it. To read one that the user trusts is fine.
	der, err := x509.DecryptPEMBlock(block, []byte(passphrase))
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, errPassphrase
	}
	if err != nil {
		return nil, err
	}
	key, err := parsePlainKey(der)
	if err != nil {
		// One wrong passphrase in 256 gets past the check of the padding.
		return nil, fmt.Errorf("%w, or %w", errPassphrase, err)
	}
	return key, nil
}

func openPKCS8(der []byte, passphrase string) (key crypto.Signer, err error) {
	defer func() {
		// The library trusts the lengths in the file: an IV of another length than the cipher's
		// makes crypto/cipher panic.
		if r := recover(); r != nil {
			key, err = nil, fmt.Errorf("the encrypted key is malformed: %v", r)
		}
	}()
	parsed, _, err := pkcs8.ParsePrivateKey(der, []byte(passphrase))
	if err != nil {
		if strings.HasSuffix(err.Error(), "incorrect password") { // there is no type for it
			return nil, errPassphrase
		}
		return nil, err
	}
	return signer(parsed)
}

// parsePlainKey tries the encodings in turn, as the type of the PEM block is often wrong.
func parsePlainKey(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("no private key in PKCS#8, PKCS#1 or SEC 1: %w", err)
	}
	return signer(key)
}

func signer(key any) (crypto.Signer, error) {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("a key of type %T can't sign for TLS", key)
}

// matches returns an error unless key is the key of the first certificate.
func (p *pemPair) matches(key crypto.Signer, chain []*x509.Certificate) error {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return p.keyError(
			explain.ReasonUnreadableKey,
			fmt.Sprintf("a key of type %T can't be compared", key),
			"",
			nil,
		)
	}
	for i, cert := range chain {
		if !public.Equal(cert.PublicKey) {
			continue
		}
		if i == 0 {
			return nil
		}
		return p.keyError(
			explain.ReasonLeafNotFirst,
			fmt.Sprintf(
				"the key belongs to certificate %d in %s, %s",
				i+1,
				text.Printable(p.certFile, text.MaxText),
				text.CertName(cert),
			),
			"the leaf must come first: put that one first, intermediates after it",
			nil,
		)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return p.keyError(
			explain.ReasonUnreadableKey,
			text.Printable(err.Error(), text.MaxText),
			"",
			err,
		)
	}
	return p.keyError(
		explain.ReasonKeyMismatch,
		fmt.Sprintf(
			"the key is another certificate's: SPKI SHA-256 of the key is %s, of the certificate %s in %s",
			text.Fingerprint(
				spki,
			),
			text.Fingerprint(chain[0].RawSubjectPublicKeyInfo),
			text.Printable(p.certFile, text.MaxText),
		),
		"use the key that the certificate was requested with, or have it reissued for this one",
		nil,
	)
}

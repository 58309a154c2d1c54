package tlsconfig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const certificateBlock = "CERTIFICATE"

// readOption reads the file that an option names.
func readOption(option, path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, &OptionError{option, fmt.Errorf("%w (as user %d)", err, os.Geteuid())}
	case err != nil:
		return nil, &OptionError{option, err} // *fs.PathError, which names the path
	}
	return data, nil
}

// loadRoots returns a pool of the certificates in the file and the directory, or nil if neither is given.
func loadRoots(file, dir string) (*x509.CertPool, error) {
	if file == "" && dir == "" {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if file != "" {
		data, err := readOption("ssl_cafile", file)
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(data) {
			if _, err = parseChain(data); err == nil {
				err = errors.New("no certificate to use") // x509 passes over blocks with headers
			}
			return nil, &OptionError{"ssl_cafile", fmt.Errorf("%s: %w", file, err)}
		}
	}
	if dir == "" {
		return pool, nil
	}

	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, &OptionError{"ssl_capath", err}
	}
	found := false
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		info, err := os.Stat(path) // follows the links that such directories are full of
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue // a link to nowhere, a folder, a pipe that would block
		}
		if err != nil {
			return nil, &OptionError{"ssl_capath", err}
		}
		data, err := readOption("ssl_capath", path)
		if err != nil {
			return nil, err
		}
		found = pool.AppendCertsFromPEM(data) || found // other files, such as lists of revocations, are passed over
	}
	if !found {
		return nil, &OptionError{"ssl_capath", fmt.Errorf("%s: no file in it has a certificate in PEM", dir)}
	}
	return pool, nil
}

// loadKeyPair returns the certificate chain in certFile with the key in keyFile, after checking that they belong
// together.
func loadKeyPair(certFile, keyFile, passphrase string) (pair tls.Certificate, err error) {
	certData, err := readOption("ssl_cert_file", certFile)
	if err != nil {
		return pair, err
	}
	keyData, err := readOption("ssl_key_file", keyFile)
	if err != nil {
		return pair, err
	}

	chain, err := parseChain(certData)
	if err != nil {
		if findKey(certData) != nil && pemBlocks(keyData, certificateBlock) != nil {
			err = fmt.Errorf("%w (ssl_cert_file and ssl_key_file are swapped)", err)
		}
		return pair, &OptionError{"ssl_cert_file", fmt.Errorf("%s: %w", certFile, err)}
	}
	key, err := parseKey(keyData, passphrase)
	if err != nil {
		return pair, &OptionError{"ssl_key_file", fmt.Errorf("%s: %w", keyFile, err)}
	}
	if err := matches(key, chain); err != nil {
		return pair, &OptionError{"ssl_key_file", fmt.Errorf("%s and %s: %w", keyFile, certFile, err)}
	}

	pair.PrivateKey = key
	pair.Leaf = chain[0]
	for _, cert := range chain {
		pair.Certificate = append(pair.Certificate, cert.Raw)
	}
	return pair, nil
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

// findKey returns the first block with a private key. Others may come before it, such as EC PARAMETERS.
func findKey(data []byte) *pem.Block {
	for {
		block, rest := pem.Decode(data)
		if block == nil || block.Type == "PRIVATE KEY" || strings.HasSuffix(block.Type, " PRIVATE KEY") {
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
		return "the file has a PEM block of type " + quoted(block.Type)
	case data[0] == 0x30: // ASN.1 SEQUENCE
		return "the file is not PEM, it looks like DER (openssl x509 -inform der, or openssl pkey, converts it)"
	}
	return "the file is not PEM"
}

// parseChain returns the certificates in data, of which there is at least one, in their order.
func parseChain(data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for i, der := range pemBlocks(data, certificateBlock) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d in the file: %w", i+1, err)
		}
		chain = append(chain, cert)
	}
	if chain == nil {
		return nil, fmt.Errorf("no certificate: %s", contents(data))
	}
	return chain, nil
}

// parseKey returns the first private key in data: PKCS#8, PKCS#1 or SEC 1, in the clear or in RFC 1423 encryption.
func parseKey(data []byte, passphrase string) (crypto.Signer, error) {
	block := findKey(data)
	if block == nil {
		return nil, fmt.Errorf("no private key: %s", contents(data))
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" {
		return nil, errors.New("the key is encrypted as PKCS#8, which can't be read here; " +
			"openssl pkey -in KEY -out PLAIN decrypts it, then protect the file by its permissions")
	}

	der := block.Bytes
	encrypted := block.Headers["DEK-Info"] != ""
	if encrypted {
		if passphrase == "" {
			return nil, errors.New("the key is encrypted: set ssl_passphrase")
		}
		var err error
		//lint:ignore SA1019 Deprecated, as such a file proves nothing about who wrote it. To read one that the user trusts is fine.
		der, err = x509.DecryptPEMBlock(block, []byte(passphrase))
		if errors.Is(err, x509.IncorrectPasswordError) {
			return nil, errors.New("ssl_passphrase does not open the key")
		}
		if err != nil {
			return nil, err
		}
	}

	key, err := parsePlainKey(der)
	if err != nil && encrypted {
		// One wrong passphrase in 256 gets past the check of the padding.
		return nil, fmt.Errorf("after decryption the key can't be read: ssl_passphrase is wrong, or %w", err)
	}
	return key, err
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
func matches(key crypto.Signer, chain []*x509.Certificate) error {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return fmt.Errorf("a key of type %T can't be compared", key)
	}
	for i, cert := range chain {
		if !public.Equal(cert.PublicKey) {
			continue
		}
		if i > 0 {
			return fmt.Errorf("the key belongs to certificate %d in the file: put that one first, intermediates after it",
				i+1)
		}
		return nil
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	return fmt.Errorf("the key is another certificate's: SPKI SHA-256 of the key is %s, of the certificate %s",
		fingerprint(spki), fingerprint(chain[0].RawSubjectPublicKeyInfo))
}

func fingerprint(spki []byte) string {
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}

package main

import (
	"errors"
	"fmt"

	"github.com/whorl-go/whorl/internal/setting"
	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// remedies are the flags of a command against failures of TLS; empty where it has none.
type remedies struct {
	trust       string // against authorities that aren't trusted
	name        string // against a certificate for other hosts
	upgrade     string // against a server that doesn't begin with TLS
	certificate string // against a server that wants a client certificate
	passphrase  string // against a key that is encrypted
	header      string // against a server that wants credentials in HTTP

	flags flags // that set what explanations name
}

// against returns the flags against a cause.
func (r *remedies) against(cause explain.ID) string {
	switch cause {
	case explain.IDChainPrivateRoot, explain.IDChainUnknownIssuer, explain.IDCertSelfSigned,
		explain.IDRootsNone:
		return r.trust
	case explain.IDNameMismatch, explain.IDNameWildcard, explain.IDNameAddress,
		explain.IDNameNoSNI:
		return r.name
	case explain.IDPortStartTLS, explain.IDPortPlaintext, explain.IDTimeout, explain.IDClosed:
		return r.upgrade
	case explain.IDClientCertRequired:
		return r.certificate
	case explain.IDKeyEncrypted, explain.IDKeyPassphrase:
		return r.passphrase
	case probe.IDForbidden:
		return r.header
	}
	return ""
}

// add adds to a failed handshake what mends it on this command line, and has it speak of that.
func (r *remedies) add(err error) error {
	refused, ok := errors.AsType[*explain.HandshakeError](err)
	if !ok {
		return err
	}
	said := r.flags.said(err.Error())
	if flags := r.against(refused.ID); flags != "" {
		said = fmt.Sprintf("%s; on this command line: %s", said, flags)
	}
	return &reworded{err, said}
}

// reword has a report speak of the command line.
func (r *remedies) reword(report *probe.Report) {
	for i := range report.Findings {
		finding := &report.Findings[i]
		finding.Evidence = r.flags.said(finding.Evidence)
		finding.Mend = r.flags.said(finding.Mend)
	}
	for i := range report.Layers {
		report.Layers[i].Detail = r.flags.said(report.Layers[i].Detail)
	}
}

// reworded is an error as it is said on a command line.
type reworded struct {
	err  error
	said string
}

func (e *reworded) Error() string { return e.said }
func (e *reworded) Unwrap() error { return e.err }

// flags are those by which a command sets what explanations name by Go's fields and PHP's options.
type flags map[string]string

// The flags of each command.
var (
	files = flags{
		setting.Roots: "--ca", setting.CertFile: "--cert", setting.KeyFile: "--key",
		setting.Certificate: "--cert and --key", setting.Passphrase: "--passphrase-file",
		setting.ServerName: "--host",
	}
	probeFlags = flags{
		setting.Roots: "--ca", setting.ServerName: "--server-name",
		setting.Certificate: "--cert and --key", setting.Passphrase: "--passphrase-file",
	}
	mailFlags  = flags{setting.Roots: "--ca", setting.ServerName: "--server-name"}
	benchFlags = flags{
		setting.Roots: "--ca", setting.ServerName: "--server-name",
		setting.AllowSelfSigned: "--insecure", setting.MinVersion: "--tls-min",
		setting.MaxVersion: "--tls-max", setting.Versions: "--tls-min and --tls-max",
		setting.CipherSuites: "--ciphers", setting.Groups: "--groups", setting.ALPN: "--alpn",
		setting.Certificate: "--cert and --key", setting.Passphrase: "--passphrase-file",
	}
)

// otherwise is how to call what a command has no flag for.
var otherwise = flags{
	setting.Roots:              "the authorities that are trusted",
	setting.AllowSelfSigned:    "not verifying it",
	setting.ServerName:         "the name to verify",
	setting.VerifyDepth:        "the limit of intermediates",
	setting.MinVersion:         "the lowest version of the client's configuration",
	setting.MaxVersion:         "the highest version of the client's configuration",
	setting.Versions:           "the versions of the client's configuration",
	setting.CipherSuites:       "the suites of the client's configuration",
	setting.Groups:             "the groups of the client's configuration",
	setting.Certificate:        "the client's certificate",
	setting.Authorities:        "whorl probe",
	setting.ALPN:               "the client's ALPN",
	setting.ClientFor:          "the client",
	setting.ECH:                "Encrypted Client Hello",
	setting.ECHRetry:           "configuration",
	setting.CertFile:           "the certificate",
	setting.KeyFile:            "the key",
	setting.Passphrase:         "the passphrase",
	setting.ServerGroups:       "the restriction of the server's groups",
	setting.ClientCAs:          "the authorities for clients",
	setting.ClientCertsRequest: "certificates of clients to optional",
	setting.StrictSNI:          "a server that is strict about names",
}

// said returns an explanation as it is said on the command line.
func (f flags) said(explanation string) string {
	return setting.Replace(explanation, func(name string) string {
		if flag, ok := f[name]; ok {
			return flag
		}
		return otherwise[name]
	})
}

// Package setting has the names by which explanations speak of what can be set on this side: Go's
// field, and in brackets PHP's option. A program whose users see neither puts its own in their
// place.
package setting

import (
	"regexp"
	"slices"
	"strings"
)

// Those of a client.
const (
	Roots           = "RootCAs (ssl_cafile)"
	AllowSelfSigned = "ssl_allow_self_signed"
	ServerName      = "ServerName (ssl_host_name)"
	VerifyDepth     = "ssl_verify_depth"
	MinVersion      = "MinVersion (ssl_protocols)"
	MaxVersion      = "MaxVersion (ssl_protocols)"
	Versions        = "MinVersion and MaxVersion (ssl_protocols)"
	CipherSuites    = "CipherSuites (ssl_ciphers)"
	Groups          = "CurvePreferences (ssl_ecdh_curve)"
	Certificate     = "Certificates (ssl_cert_file and ssl_key_file)"
	Authorities     = "GetClientCertificate" // sees whose certificates a server wants
	ALPN            = "NextProtos"
	ClientFor       = "tlsconfig.Client.For"
	ECH             = "EncryptedClientHelloConfigList"
	ECHRetry        = "RetryConfigList"
)

// Those of files.
const (
	CertFile   = "CertFile"
	KeyFile    = "KeyFile"
	Passphrase = "the passphrase (ssl_passphrase)"
)

// Those that a server alone has.
const (
	ServerGroups       = "Groups (ssl_ecdh_curve)"
	ClientCAs          = "ClientCAFiles (cafile, ssl_client_cert_file)"
	ClientCertsRequest = "ClientCertsRequest"
	StrictSNI          = "StrictSNI"
)

var all = []string{
	Roots, AllowSelfSigned, ServerName, VerifyDepth, MinVersion, MaxVersion, Versions,
	CipherSuites, Groups, Certificate, Authorities, ALPN, ClientFor, ECH, ECHRetry, CertFile,
	KeyFile, Passphrase, ServerGroups, ClientCAs, ClientCertsRequest, StrictSNI,
}

// All returns all of them.
func All() []string { return slices.Clone(all) }

// words finds settings, but not within other words, such as a path.
var words = func() *regexp.Regexp {
	quoted := make([]string, len(all))
	for i, setting := range all {
		quoted[i] = regexp.QuoteMeta(setting)
	}
	return regexp.MustCompile(`(?:^|[ (])(?:` + strings.Join(quoted, "|") + `)(?:$|[ ,;:.)])`)
}()

// Replace returns text with what name returns for each setting in place of it.
func Replace(text string, name func(setting string) string) string {
	var b strings.Builder
	for {
		at := words.FindStringIndex(text)
		if at == nil {
			b.WriteString(text)
			return b.String()
		}
		for _, setting := range all {
			rest := strings.TrimLeft(text[at[0]:], " (")
			if after, ok := strings.CutPrefix(rest, setting); ok &&
				(after == "" || strings.ContainsAny(after[:1], " ,;:.)")) {
				b.WriteString(text[:len(text)-len(rest)] + name(setting))
				text = after
				break
			}
		}
	}
}

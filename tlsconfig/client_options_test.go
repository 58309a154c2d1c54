package tlsconfig

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/internal/tlstest"
)

func TestClientOptions(t *testing.T) {
	ca, stranger := tlstest.NewCA(t), tlstest.NewCA(t)
	cert := tlstest.Issued(t, ca, "mail.test")
	own, other := text.Fingerprint(cert.Leaf.Raw), strings.Repeat("00", 32)
	for name, test := range map[string]struct {
		options ClientOptions
		host    string
		well    bool
	}{
		"by CAPEM":             {ClientOptions{CAPEM: ca.PEM()}, "mail.test", true},
		"by CAFiles":           {ClientOptions{CAFiles: []string{tlstest.File(t, "ca.pem", ca.PEM())}}, "mail.test", true},
		"by nobody":            {ClientOptions{CAPEM: stranger.PEM()}, "mail.test", false},
		"another name":         {ClientOptions{CAPEM: ca.PEM()}, "evil.test", false},
		"another name, chosen": {ClientOptions{CAPEM: ca.PEM(), ServerName: "MAIL.test."}, "evil.test", true},
		"any name":             {ClientOptions{CAPEM: ca.PEM(), InsecureSkipName: true}, "evil.test", true},
		"any chain":            {ClientOptions{CAPEM: stranger.PEM(), InsecureSkipChain: true}, "mail.test", true},
		"any chain, its name":  {ClientOptions{InsecureSkipChain: true}, "evil.test", false},
		"no SNI":               {ClientOptions{CAPEM: ca.PEM(), ServerName: NoSNI}, "mail.test", true},
		"one of two pins":      {ClientOptions{CAPEM: ca.PEM(), Fingerprints: []string{other, own}}, "mail.test", true},
		"another pin":          {ClientOptions{CAPEM: ca.PEM(), Fingerprints: []string{other}}, "mail.test", false},
		"pinned alone, another": {
			ClientOptions{InsecureSkipChain: true, InsecureSkipName: true, Fingerprints: []string{other}}, "evil.test", false,
		},
	} {
		base, err := test.options.Config()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m := tlstest.Meet(t, NewClient(base).For(test.host), tlstest.Server(cert))
		if (m.ClientErr == nil) != test.well {
			t.Errorf("%s: %v", name, m.ClientErr)
		}
	}
}

func TestClientOptionsThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		option, says string
		options      ClientOptions
	}{
		{"ServerName", "no host name", ClientOptions{ServerName: "a b"}},
		{"CAFiles", "file missing", ClientOptions{CAFiles: []string{"/nonexistent"}}},
		{"CADirs", "file missing", ClientOptions{CADirs: []string{"/nonexistent"}}},
		{"CAPEM", "not PEM", ClientOptions{CAPEM: []byte("x")}},
		{"VerifyDepth", "negative", ClientOptions{VerifyDepth: -1}},
		{"Fingerprints", "hexadecimal", ClientOptions{Fingerprints: []string{"x"}}},
		{"CertFile", "file missing", ClientOptions{CertFile: "/nonexistent"}},
		{"KeyFile", "set CertFile", ClientOptions{KeyFile: "key.pem"}},
		{"Passphrase", "no key", ClientOptions{Passphrase: "open sesame"}},
		{"MinVersion", "does not have version", ClientOptions{MinVersion: 0x300}},
		{"MaxVersion", "below MinVersion", ClientOptions{MaxVersion: tls.VersionTLS11}},
		{"CipherSuites", "does not have suite", ClientOptions{CipherSuites: []uint16{1}}},
		{"Groups", "does not have group", ClientOptions{Groups: []tls.CurveID{1}}},
		{"ALPN", "1 to 255", ClientOptions{ALPN: []string{""}}},
	} {
		_, err := test.options.Config()
		e, ok := errors.AsType[*OptionError](err)
		if !ok || e.Option != test.option || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.option, err)
		}
	}
}

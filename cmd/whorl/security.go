package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/whorl-go/whorl/internal/dialogue"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/dialect"
)

// security is the flags of a client that say how it uses TLS.
type security struct {
	tls      bool
	startTLS string

	ca, serverName string
	insecure       bool

	versions        versions
	ciphers, groups string
	cert, key       string
	passphrase      string // the name of the file
	alpn            []string
}

func (s *security) flags(command *cobra.Command, always bool) {
	f := command.Flags()
	if !always {
		f.BoolVar(&s.tls, "tls", false, "use TLS from the start (default plaintext)")
	}
	f.StringVar(&s.startTLS, "starttls", "",
		"use TLS after the dialogue of a protocol: "+strings.Join(dialogue.Names(), ", "))
	s.verifyFlags(command)
	f.StringSliceVar(&s.alpn, "alpn", nil, "application protocols to offer")
}

// verifyFlags are those that say what TLS is like where it is used.
func (s *security) verifyFlags(command *cobra.Command) {
	f := command.Flags()
	f.StringVar(&s.ca, "ca", "", "trust the authorities in FILE (PEM) instead of the system's")
	f.BoolVar(&s.insecure, "insecure", false, "don't verify the server's certificate")
	f.StringVar(&s.serverName, "server-name", "",
		"name to ask for and to verify (default the target's host)")
	s.versions.flags(command)
	f.StringVar(&s.ciphers, "ciphers", "",
		"suites for TLS 1.2, as an OpenSSL cipher list (those of TLS 1.3 can't be chosen)")
	f.StringVar(&s.groups, "groups", "", "groups for the key exchange, such as X25519:prime256v1")
	f.StringVar(&s.cert, "cert", "", "client certificate, PEM FILE with its chain")
	f.StringVar(&s.key, "key", "", "its key, PEM FILE (default the same file)")
	f.StringVar(&s.passphrase, passphraseFlag, "", passphraseUsage)
}

// client makes of the flags what a client needs; nil for plaintext.
func (s *security) client(always bool) (*tls.Config, *dialogue.Protocol, error) {
	var protocol *dialogue.Protocol
	if s.startTLS != "" {
		var err error
		if protocol, err = dialogue.Lookup(s.startTLS); err != nil {
			return nil, nil, fmt.Errorf("--starttls: %w", err)
		}
		if s.tls {
			return nil, nil,
				errors.New("--tls and --starttls exclude each other: TLS begins with the " +
					"connection, or after the dialogue")
		}
	}
	if !always && !s.tls && protocol == nil {
		return nil, nil, s.unused()
	}
	if s.insecure && (s.ca != "" || s.serverName != "") {
		return nil, nil,
			errors.New("--insecure verifies nothing, so --ca and --server-name are of no use " +
				"with it")
	}
	passphrase, err := secret("--"+passphraseFlag, s.passphrase)
	if err != nil {
		return nil, nil, err
	}
	options := map[string]any{"ssl_verify_peer": !s.insecure}
	for name, value := range map[string]string{
		"ssl_cafile": s.ca, "ssl_host_name": s.serverName, "ssl_ciphers": s.ciphers,
		"ssl_ecdh_curve": s.groups,
		"ssl_cert_file":  s.cert, "ssl_key_file": or(s.key, s.cert),
		"ssl_passphrase": passphrase,
	} {
		if value != "" {
			options[name] = value
		}
	}
	config, err := dialect.SwooleClient(options)
	if err != nil {
		return nil, nil, namingFlag(err)
	}
	if config.MinVersion, config.MaxVersion, err = s.versions.parse(); err != nil {
		return nil, nil, err
	}
	config.NextProtos = s.alpn
	return config, protocol, nil
}

// unused returns an error if flags of TLS were given and TLS wasn't asked for: somebody thinks it
// is used.
func (s *security) unused() error {
	if s.ca == "" && s.serverName == "" && !s.insecure && s.versions == (versions{}) &&
		s.ciphers == "" && s.groups == "" && s.cert == "" && s.key == "" &&
		s.passphrase == "" && len(s.alpn) == 0 {
		return nil
	}
	return errors.New("flags for TLS without --tls, --starttls or wss: the connection would be " +
		"in plaintext")
}

// optionFlags are the flags that options of packages tlsconfig, dialect and probe come from.
var optionFlags = map[string]string{
	"Host": "the target", "Port": "the target", "Scheme": "the target", "Path": "the target",
	"StartTLS": "--starttls", "Policy": "--policy", "Injection": "--injection",
	"Header": "--header", "Subprotocols": "--subprotocol",
	"CAFiles": "--ca", "ssl_cafile": "--ca",
	"ServerName": "--server-name", "ssl_host_name": "--server-name",
	"CertFile": "--cert", "ssl_cert_file": "--cert",
	"KeyFile": "--key", "ssl_key_file": "--key",
	"Passphrase": "--passphrase-file", "ssl_passphrase": "--passphrase-file",
	"ssl_ciphers": "--ciphers", "ssl_ecdh_curve": "--groups",
}

// sslOption finds what package dialect calls other options than the one that is wrong.
var sslOption = regexp.MustCompile(`\bssl_[a-z_]+\b`)

// namingFlag says of an option which flag it came from.
func namingFlag(err error) error {
	option, ok := errors.AsType[*tlsconfig.OptionError](err)
	if !ok {
		return err
	}
	named := func(option string) string { return or(optionFlags[option], option) }
	said := sslOption.ReplaceAllStringFunc(files.said(option.Err.Error()), named)
	return &reworded{err, fmt.Sprintf("%s: %s", named(option.Option), said)}
}

// versions is the flags for the versions of TLS.
type versions struct{ lowest, highest string }

func (v *versions) flags(command *cobra.Command) {
	command.Flags().StringVar(&v.lowest, "tls-min", "",
		"lowest version of TLS: 1.0, 1.1, 1.2, 1.3 (default 1.2)")
	command.Flags().StringVar(&v.highest, "tls-max", "", "highest version of TLS (default 1.3)")
}

func (v *versions) parse() (lowest, highest uint16, err error) {
	names := []string{"1.0", "1.1", "1.2", "1.3"}
	number := func(flag, name string, otherwise uint16) uint16 {
		i := slices.Index(names, name)
		switch {
		case name == "":
			return otherwise
		case i < 0 && err == nil:
			err = fmt.Errorf("%s %q: want %s", flag, name, strings.Join(names, ", "))
		}
		return tls.VersionTLS10 + uint16(max(0, i))
	}
	lowest, highest = number("--tls-min", v.lowest, tls.VersionTLS12),
		number("--tls-max", v.highest, tls.VersionTLS13)
	if err == nil && lowest > highest {
		if v.lowest != "" {
			return 0, 0, fmt.Errorf("--tls-min %s is above --tls-max", v.lowest)
		}
		return 0, 0,
			fmt.Errorf("--tls-max %s is below the default of --tls-min, 1.2: set that as well",
				v.highest)
	}
	return lowest, highest, err
}

// secret returns what is in a file: one that is in the command line can be read by all users of a
// machine. No file is no secret.
func secret(flag, file string) (string, error) {
	if file == "" {
		return "", nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return strings.TrimRight(string(content), "\r\n"), nil
}

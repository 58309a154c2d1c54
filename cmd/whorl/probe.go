package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/tlsconfig"
)

// prober is the command whorl probe, with its flags.
type prober struct {
	options    probe.Options
	policy     string
	startTLS   string
	serverName string
	ca         string
	cert, key  string
	passphrase string
	header     []string
	json       bool
}

// A flag that all commands with a key in a file have.
const (
	passphraseFlag  = "passphrase-file"
	passphraseUsage = "FILE with the passphrase of the key, if that is encrypted"
)

func probeCommand() *cobra.Command {
	p := new(prober)
	command := &cobra.Command{
		Use:   "probe HOST:PORT",
		Short: "says why TLS with a server fails, and what the server takes where it doesn't",
		Long: `Connects as a client would, from DNS to the answer behind TLS, and says what is wrong, by an
id that stays the same, with the evidence, and with what mends it. https://… and wss://… are
targets, too: then the answer has to be a page (a status of 2xx, or a redirection), or a WebSocket.

Where TLS works, each question (versions, suites, groups, …) takes a connection of its own, one
after the other. On one of them a page is asked for (GET /, or the target's path), or a WebSocket
opened and left at once: whoever is let in by the URL or by --header has been there, for the server
as well. A server that isn't verified gets no query and no header. Nothing else that is sent does
anything.

It exits with 0 if all is fine, with 1 if there are warnings or errors, with 2 if the server
can't be reached, with 3 if the command line is wrong. docs/probe.md lists the ids.`,
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error { return p.run(command, args[0]) },
	}
	f := command.Flags()
	f.SortFlags = false
	f.StringVar(
		&p.startTLS,
		"starttls",
		"",
		"ask for TLS in a protocol: smtp, imap, xmpp-client, postgres and so on (default TLS "+
			"from the "+
			"start)",
	)
	f.StringVar(&p.serverName, "server-name", "",
		"name to ask for and to verify (default the target's host)")
	f.StringVar(&p.ca, "ca", "", "trust the authorities in FILE (PEM) instead of the system's")
	f.StringVar(&p.cert, "cert", "", "client certificate, PEM FILE with its chain")
	f.StringVar(&p.key, "key", "", "its key, PEM FILE (default the same file)")
	f.StringVar(&p.passphrase, passphraseFlag, "", passphraseUsage)
	f.StringArrayVar(&p.header, "header", nil, headerUsage+" (https:// and wss://)")
	f.StringSliceVar(&p.options.Subprotocols, "subprotocol", nil, subprotocolUsage+" (wss://)")
	f.StringVar(&p.policy, "policy", "", fmt.Sprintf("hold the server to %s or %s",
		probe.MozillaIntermediate, probe.MozillaModern))
	f.BoolVar(
		&p.options.Injection,
		"injection",
		false,
		"test whether the server runs a command that was sent in plaintext behind STARTTLS (only "+
			"for "+
			"servers of your own)",
	)
	f.DurationVar(&p.options.Timeout, "timeout", probe.DefaultTimeout, "of each step")
	f.BoolVar(&p.json, "json", false, "print JSON, see docs/probe.schema.json")
	command.AddCommand(probeFilesCommand())
	return command
}

func (p *prober) run(command *cobra.Command, target string) error {
	to, err := probe.ParseTarget(target)
	if err != nil {
		return err
	}
	to.StartTLS, to.ServerName = p.startTLS, p.serverName
	p.options.Policy = probe.Policy(p.policy)
	if p.options.Timeout <= 0 {
		return errors.New("--timeout wants more than 0")
	}
	if p.options.Header, err = parseHeader(p.header); err != nil {
		return err
	}
	passphrase, err := secret("--"+passphraseFlag, p.passphrase)
	if err != nil {
		return err
	}
	config, err := (tlsconfig.ClientOptions{
		CAFiles: optional(p.ca), CertFile: p.cert, KeyFile: p.key, Passphrase: passphrase,
	}).Config()
	if err != nil {
		return namingFlag(err)
	}
	p.options.Roots = config.RootCAs
	if len(config.Certificates) > 0 {
		p.options.Certificate = &config.Certificates[0]
	}
	report, err := probe.Run(command.Context(), to, p.options)
	return finish(command, report, err, p.json)
}

func optional(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

func probeFilesCommand() *cobra.Command {
	var cert, key, passphrase, ca string
	var asJSON bool
	var options probe.FilesOptions
	command := &cobra.Command{
		Use:   "files --cert FILE [--key FILE] [--host NAME]",
		Short: "the same for a certificate's files, without a connection",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if cert == "" {
				return errors.New("--cert is missing")
			}
			config, err := (tlsconfig.ClientOptions{CAFiles: optional(ca)}).Config()
			if err != nil {
				return namingFlag(err)
			}
			options.Roots = config.RootCAs
			options.Passphrase, err = secret("--"+passphraseFlag, passphrase)
			if err != nil {
				return err
			}
			report, err := probe.Files(command.Context(), cert, key, options)
			return finish(command, report, err, asJSON)
		},
	}
	f := command.Flags()
	f.SortFlags = false
	f.StringVar(&cert, "cert", "", "the server's certificate with its intermediates, PEM FILE")
	f.StringVar(&key, "key", "", "its key, PEM FILE (default the same file)")
	f.StringVar(&passphrase, passphraseFlag, "", passphraseUsage)
	f.StringVar(&options.Host, "host", "", "the host that it is for")
	f.StringVar(&ca, "ca", "", "trust the authorities in FILE (PEM) instead of the system's")
	f.BoolVar(&asJSON, "json", false, "print JSON, see docs/probe.schema.json")
	return command
}

// statusError ends the program with a status. All was said before.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// finish prints a report, and returns the program's status.
func finish(command *cobra.Command, report *probe.Report, err error, asJSON bool) error {
	if report == nil {
		return namingFlag(err)
	}
	if err != nil {
		return failed(fmt.Errorf("given up: %w", err))
	}
	out := command.OutOrStdout()
	remediesFor(report).reword(report)
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(report)
	} else {
		_, err = io.WriteString(out, reportText(report, coloured(out), columns(out)))
	}
	if err != nil {
		return failed(err)
	}
	if status := report.ExitStatus(); status != probe.ExitFine {
		return statusError(status)
	}
	return nil
}

// hasOwnStatuses reports whether a command, or what it is below, is whorl probe or whorl mail.
func hasOwnStatuses(command *cobra.Command) bool {
	for ; command != nil; command = command.Parent() {
		if name := command.Name(); name == "probe" || name == "mail" {
			return true
		}
	}
	return false
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/reply"
	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// passwordVariable has the password where there is no file with it.
const passwordVariable = "WHORL_MAIL_PASSWORD"

// mailer is the command whorl mail, with its flags.
type mailer struct {
	server             mailServer
	user, passwordFile string
	ca, serverName     string
	timeout            time.Duration
	dryRun, verbose    bool
	letter             letter
}

func mailCommand() *cobra.Command {
	m := new(mailer)
	command := &cobra.Command{
		Use:   "mail --server HOST:PORT --from ADDRESS --to ADDRESS",
		Short: "sends one message",
		Long: `Sends one message to a mail server, over TLS unless it is told otherwise. Without --text and
--html the text is standard input. The password is in a file or in the environment variable
` + passwordVariable + `, and goes over TLS only.

It exits with 0 if the server has accepted the message for all recipients, with 1 if not for all
of them, and says who and why; with 2 if the server can't be reached, with 3 if the command line
is wrong.`,
		Example: `  whorl mail --server mail.example.com:587 --user me --password-file secret \
    --from me@example.com --to you@example.com --subject Hello --attach cat.jpg <hello.txt
  whorl mail --server smtps://mail.example.com --from me@example.com --to you@example.com \
    --text Hello --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return m.run(command) },
	}
	f := command.Flags()
	f.SortFlags = false
	f.StringVar(&m.server.address, "server", "",
		"HOST:PORT, smtp://HOST (port 587), smtps://HOST (465), lmtp://HOST (24), or the path of a "+
			"Unix socket")
	f.StringVar(&m.server.security, "security", "",
		"mandatory (STARTTLS), implicit (TLS from the start), or opportunistic (STARTTLS if it is "+
			"offered, else plaintext) (default mandatory, implicit for smtps:// and port 465)")
	f.BoolVar(&m.server.lmtp, "lmtp", false, "speak LMTP, to a server that delivers")
	f.StringVar(&m.user, "user", "", "name to log in with (default no login)")
	f.StringVar(&m.passwordFile, "password-file", "",
		"FILE with the password (default $"+passwordVariable+")")
	m.letter.flags(command)
	f.StringVar(&m.ca, "ca", "", "trust the authorities in FILE (PEM) instead of the system's")
	f.StringVar(&m.serverName, "server-name", "",
		"name to ask for and to verify (default the server's host)")
	f.DurationVar(&m.timeout, "timeout", 2*time.Minute, "of each step: connecting, an answer")
	f.BoolVar(&m.dryRun, "dry-run", false,
		"print the dialogue with a server that accepts everything, and the message; connect to none")
	f.BoolVar(&m.verbose, "verbose", false,
		"print the dialogue to standard error, without credentials")
	return command
}

func (m *mailer) run(command *cobra.Command) error {
	config, err := m.config()
	if err != nil {
		return err
	}
	mail, text, err := m.letter.build(command.InOrStdin())
	if err != nil {
		return err
	}
	ctx, stdout, stderr := command.Context(), command.OutOrStdout(), command.ErrOrStderr()
	// What can't be sent to any server is found out before one is asked.
	var dialogue strings.Builder
	rehearsed := config
	rehearsed.Trace = func(line string) { dialogue.WriteString(line + "\n") }
	if err := smtp.Rehearse(ctx, rehearsed, mail); err != nil {
		return err
	}
	if m.dryRun {
		_, err := fmt.Fprintf(stdout, "%s\n%s\n", dialogue.String(), strings.TrimRight(text, "\n"))
		return failed(err)
	}
	heard := false // the server has said something
	config.Trace = func(line string) {
		heard = heard || strings.HasPrefix(line, "S: ")
		if m.verbose {
			fmt.Fprintln(stderr, line)
		}
	}
	receipt, err := m.send(ctx, config, mail)
	if err != nil {
		silent := !heard && config.Security != smtp.Implicit
		return m.explain(command, err, silent)
	}
	if _, err := fmt.Fprintf(stdout, "Accepted by %s: %s\n", m.server.address,
		reply.Printable(receipt.Text)); err != nil {
		return failed(fmt.Errorf("the message was accepted, but: %w", err))
	}
	for _, refused := range receipt.Refused {
		fmt.Fprintf(stderr, "Refused: %v\n", refused)
	}
	if len(receipt.Refused) > 0 {
		return statusError(exitFailed)
	}
	return nil
}

// config makes a configuration of the flags.
func (m *mailer) config() (config smtp.Config, err error) {
	if config.Security, err = m.server.parse(); err != nil {
		return config, err
	}
	if m.timeout <= 0 {
		return config, errors.New("--timeout wants more than 0")
	}
	tls, err := (tlsconfig.ClientOptions{
		CAFiles: optional(m.ca), ServerName: m.serverName,
	}).Config()
	if err != nil {
		return config, namingFlag(err)
	}
	t := m.timeout
	config.LMTP = m.server.lmtp
	config.Client = client.Config{TLS: tls, ConnectTimeout: t, HandshakeTimeout: t}
	config.Timeouts = smtp.Timeouts{
		Greeting: t, Hello: t, Auth: t, Mail: t, Rcpt: t, DataInit: t, DataBlock: t, DataEnd: t,
		Other: t,
	}
	if m.user == "" {
		m.user = m.server.user
	}
	if m.user == "" {
		if m.passwordFile != "" {
			return config, errors.New("--password-file without --user")
		}
		return config, nil
	}
	password, err := m.password()
	if err != nil {
		return config, err
	}
	config.Auth = smtp.Password(m.user, password)
	return config, nil
}

func (m *mailer) password() (string, error) {
	if m.passwordFile != "" {
		return secret("--password-file", m.passwordFile)
	}
	if password, ok := os.LookupEnv(passwordVariable); ok {
		return password, nil
	}
	return "", errors.New("a user needs a password: --password-file FILE, or " +
		passwordVariable + " in the environment")
}

// send sends the mail, in a coroutine.
func (m *mailer) send(
	ctx context.Context, config smtp.Config, mail *smtp.Mail,
) (receipt smtp.Receipt, err error) {
	err = runtime.Run(func(co context.Context) error {
		co, cancel := context.WithCancel(co)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		c, err := smtp.Dial(co, m.server.address, config)
		if err != nil {
			return err
		}
		defer c.Close()
		receipt, err = c.Send(co, mail)
		quitting, stop := context.WithTimeout(co, 5*time.Second)
		defer stop()
		c.Quit(quitting) // what has become of the message stands, whatever comes of this
		return err
	}, runtime.WithLoops(1))
	return receipt, err
}

// explain prints why a message wasn't sent, or says so in the error that it returns, which has the
// program's status. silent says that the server has said nothing, where it speaks first.
func (m *mailer) explain(command *cobra.Command, err error, silent bool) error {
	stderr := command.ErrOrStderr()
	if all, ok := errors.AsType[*smtp.RecipientsError](err); ok {
		fmt.Fprintf(stderr, "%s: %s has refused all recipients\n", command.CommandPath(),
			m.server.address)
		for _, refused := range all.Refused {
			fmt.Fprintf(stderr, "Refused: %v\n", refused)
		}
		return statusError(exitFailed)
	}
	switch op, ok := errors.AsType[*net.OpError](err); {
	case errors.As(err, new(*explain.HandshakeError)):
		err = mailRemedies.add(err)
	case ok && op.Op == "connect":
		fmt.Fprintf(stderr, "%s: %v\n", command.CommandPath(), err)
		return statusError(probe.ExitUnreachable)
	case errors.Is(err, os.ErrDeadlineExceeded) && silent:
		err = fmt.Errorf("%w; a port on which TLS is from the start wants --security implicit", err)
	case errors.Is(err, smtp.ErrNoTLS) && strings.HasPrefix(m.server.address, "/"):
		err = fmt.Errorf("%w; a Unix socket does without: --security opportunistic", err)
	}
	return failed(err)
}

var mailRemedies = remedies{
	trust: "--ca FILE", name: "--server-name NAME", upgrade: "--security mandatory",
	flags: mailFlags,
}

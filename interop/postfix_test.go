//go:build interop

package interop

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/servers"
)

const password = "a secret of the tests"

// saslConf goes where Debian's postfix looks: into sasl below its configuration.
const saslConf = `
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: %s
mech_list: %s
`

// startPostfix starts a Postfix that takes mail from alice only, and returns the addresses where
// she proves who she is by AUTH PLAIN and by AUTH LOGIN.
func startPostfix(t *testing.T) (p *servers.Postfix, plain, login string) {
	t.Helper()
	p = servers.NewPostfix(t, `
smtpd_tls_received_header = yes
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_local_domain = mail.test
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
`)
	for _, mechanism := range []string{"plain", "login"} {
		p.Write("etc/sasl/"+mechanism+".conf", fmt.Sprintf(saslConf, p.Path("data/sasldb"), mechanism))
	}
	passwd := exec.Command(servers.Find(t, "saslpasswd2"), "-p", "-c", "-f", p.Path("data/sasldb"), "-u", "mail.test", "alice")
	passwd.Stdin = strings.NewReader(password)
	if out, err := passwd.CombinedOutput(); err != nil {
		t.Fatalf("saslpasswd2: %v: %s", err, out)
	}
	p.Give("data/sasldb", "postfix")
	addrs := p.Start("-o smtpd_sasl_path=plain", "-o smtpd_sasl_path=login")
	return p, addrs[0], addrs[1]
}

// buildExample builds a program of the folder examples and returns its path.
func buildExample(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", program, "../examples/"+name).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	return program
}

func TestPostfix(t *testing.T) {
	p, plain, login := startPostfix(t)
	program := buildExample(t, "starttls")
	secret, wrong := p.Write("password", password+"\n"), p.Write("wrong", "no such secret\n")
	send := func(addr string, args ...string) (status int, stdout, stderr string) {
		args = append([]string{"-addr", strings.Replace(addr, "127.0.0.1", "localhost", 1), "-from", "alice@mail.test", "-to", "bob@mail.test",
			"-ca", p.Path("ca.pem"), "-user", "alice", "-password-file", secret, "-timeout", leaktest.Patience.String()}, args...)
		cmd := exec.Command(program, args...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), out.String(), errs.String()
	}

	for mechanism, addr := range map[string]string{"PLAIN": plain, "LOGIN": login} {
		t.Run("mail, with AUTH "+mechanism, func(t *testing.T) {
			status, stdout, stderr := send(addr)
			if status != 0 || stderr != "" {
				t.Fatalf("status %d: %s", status, stderr)
			}
			for _, want := range []string{"plain  C: STARTTLS", "TLS  C: AUTH " + mechanism, "Agreed on: TLS 1.3", "queued as"} {
				if !strings.Contains(stdout, want) {
					t.Errorf("%q is missing in:\n%s", want, stdout)
				}
			}
			id := regexp.MustCompile(`Message-ID: <[A-Z0-9]+@mail\.test>`).FindString(stdout)
			if id == "" {
				t.Fatalf("no Message-ID in:\n%s", stdout)
			}
			leaktest.Until(t, "the mailbox has the last line behind "+id, func() bool {
				_, behind, _ := strings.Cut(p.Mailbox(), id)
				return strings.Contains(behind, "So does a line that is a dot.\n")
			})
			if box := p.Mailbox(); !strings.Contains(box, "using TLSv1.3") || !strings.Contains(box, "\n.A line") ||
				!strings.Contains(box, "\n.\nSo does") {
				t.Errorf("the mailbox is\n%s", box)
			}
		})
	}

	other := p.Write("other.pem", string(servers.NewCA(t).PEM()))
	before := p.Mailbox()
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"another authority", []string{"-ca", other}, `^starttls: upgrade: handshake: unknown authority: .*Whorl test CA.*\n$`},
		{"another name", []string{"-server-name", "mail.test"}, `^starttls: upgrade: handshake: name mismatch: .*"localhost".*\n$`},
		{"another password", []string{"-password-file", wrong}, `^starttls: login: AUTH PLAIN: refused with "535 .*\n$`},
		{"unknown recipient", []string{"-to", "nobody@mail.test"}, `^starttls: mail: RCPT TO: refused with "550 .*\n$`},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, stdout, stderr := send(plain, test.args...)
			if status != 1 || !regexp.MustCompile(test.want).MatchString(stderr) {
				t.Errorf("status %d: %q, want 1: %s\n%s", status, stderr, test.want, stdout)
			}
			for _, key := range []string{password, "no such secret"} {
				if strings.Contains(stdout+stderr, key) {
					t.Errorf("%q was printed", key)
				}
			}
		})
	}
	if p.Mailbox() != before {
		t.Error(fmt.Sprint("a mail has come nevertheless:\n", p.Mailbox()))
	}
}

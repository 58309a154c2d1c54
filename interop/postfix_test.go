//go:build interop

package interop

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/tlsconfig"
)

const password = "a secret of the tests"

// A postfix is a mail system of its own, apart from the machine's: its configuration, queue and mailboxes are in a folder.
type postfix struct {
	dir          string
	ca           *tlsconfig.CA
	plain, login string // addresses of smtpd with AUTH PLAIN and with AUTH LOGIN
}

const mainCF = `
compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
maillog_file = DIR/log
maillog_file_prefixes = DIR
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
disable_dns_lookups = yes
alias_maps =
alias_database =

myhostname = mail.test
mydestination =
virtual_mailbox_domains = mail.test
virtual_mailbox_base = DIR/mail
virtual_mailbox_maps = inline:{ { bob@mail.test = bob } }
virtual_uid_maps = static:UID
virtual_gid_maps = static:UID

smtpd_tls_cert_file = DIR/cert.pem
smtpd_tls_key_file = DIR/key.pem
smtpd_tls_security_level = encrypt
smtpd_tls_received_header = yes
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_local_domain = mail.test
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
`

const masterCF = `
PLAIN    inet       n  -  n  -     -  smtpd -o smtpd_sasl_path=plain
LOGIN    inet       n  -  n  -     -  smtpd -o smtpd_sasl_path=login
cleanup  unix       n  -  n  -     0  cleanup
qmgr     unix       n  -  n  300   1  qmgr
rewrite  unix       -  -  n  -     -  trivial-rewrite
bounce   unix       -  -  n  -     0  bounce
defer    unix       -  -  n  -     0  bounce
error    unix       -  -  n  -     -  error
virtual  unix       -  n  n  -     -  virtual
tlsmgr   unix       -  -  n  1000? 1  tlsmgr
anvil    unix       -  -  n  -     1  anvil
proxymap unix       -  -  n  -     -  proxymap
postlog  unix-dgram n  -  n  -     1  postlogd
`

// saslConf goes where Debian's postfix looks: into sasl below its configuration.
const saslConf = `
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: DIR/data/sasldb
mech_list: MECHANISM
`

func startPostfix(t *testing.T) *postfix {
	t.Helper()
	need(t, "postfix", "saslpasswd2")
	if os.Getuid() != 0 {
		t.Fatal("postfix has to be started by root")
	}
	p := &postfix{dir: folder(t), ca: newCA(t), plain: freeAddress(t), login: freeAddress(t)}
	certificate(t, p.dir, p.ca)
	fill := strings.NewReplacer("DIR", p.dir, "UID", "65534", "PLAIN", p.plain, "LOGIN", p.login).Replace
	write(t, p.dir, "etc/main.cf", []byte(fill(mainCF)))
	write(t, p.dir, "etc/master.cf", []byte(fill(masterCF)))
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		conf := strings.NewReplacer("DIR", p.dir, "MECHANISM", mechanism).Replace(saslConf)
		write(t, p.dir, "etc/sasl/"+strings.ToLower(mechanism)+".conf", []byte(conf))
	}
	for name, owner := range map[string]string{"queue": "root", "data": "postfix", "mail": "nobody"} {
		if err := os.Mkdir(filepath.Join(p.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		p.give(t, name, owner)
	}
	passwd := exec.Command("saslpasswd2", "-p", "-c", "-f", p.dir+"/data/sasldb", "-u", "mail.test", "alice")
	passwd.Stdin = strings.NewReader(password)
	if out, err := passwd.CombinedOutput(); err != nil {
		t.Fatalf("saslpasswd2: %v: %s", err, out)
	}
	p.give(t, "data/sasldb", "postfix")

	server := start(t, "postfix", "-c", p.dir+"/etc", "start-fg")
	t.Cleanup(func() { // runs before start's; master has left the process group that start would end
		if out, err := exec.Command("postfix", "-c", p.dir+"/etc", "stop").CombinedOutput(); err != nil {
			t.Errorf("postfix stop: %v: %s", err, out)
		}
		if log, _ := os.ReadFile(p.dir + "/log"); t.Failed() {
			t.Logf("the log of postfix:\n%s", log)
		}
	})
	for _, addr := range []string{p.plain, p.login} {
		up := func() bool {
			conn, err := net.Dial("tcp", addr)
			if err == nil {
				conn.Close()
			}
			return err == nil
		}
		if !eventually(func() bool { return up() || server.over() }) || server.over() {
			t.Fatal("postfix doesn't come up")
		}
	}
	return p
}

func (p *postfix) give(t *testing.T, name, owner string) {
	t.Helper()
	u, err := user.Lookup(owner)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(filepath.Join(p.dir, name), uid, gid); err != nil {
		t.Fatal(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// mailbox returns what bob has got.
func (p *postfix) mailbox() string {
	content, _ := os.ReadFile(p.dir + "/mail/bob")
	return string(content)
}

// buildExample returns examples/starttls as a program.
func buildExample(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "starttls")
	if out, err := exec.Command("go", "build", "-o", program, "../examples/starttls").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	return program
}

func TestPostfix(t *testing.T) {
	p := startPostfix(t)
	program := buildExample(t)
	secret := write(t, p.dir, "password", []byte(password+"\n"))
	wrong := write(t, p.dir, "wrong", []byte("no such secret\n"))
	send := func(addr string, args ...string) (status int, stdout, stderr string) {
		args = append([]string{"-addr", strings.Replace(addr, "127.0.0.1", "localhost", 1), "-from", "alice@mail.test", "-to", "bob@mail.test",
			"-ca", p.dir + "/ca.pem", "-user", "alice", "-password-file", secret, "-timeout", patience.String()}, args...)
		cmd := exec.Command(program, args...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), out.String(), errs.String()
	}

	for mechanism, addr := range map[string]string{"PLAIN": p.plain, "LOGIN": p.login} {
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
			if !eventually(func() bool { return strings.Contains(p.mailbox(), id) }) {
				t.Fatalf("%s has not come to the mailbox", id)
			}
			if box := p.mailbox(); !strings.Contains(box, "using TLSv1.3") || !strings.Contains(box, "\n.A line") ||
				!strings.Contains(box, "\n.\nSo does") {
				t.Errorf("the mailbox is\n%s", box)
			}
		})
	}

	other := write(t, p.dir, "other.pem", newCA(t).PEM())
	before := p.mailbox()
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"another authority", []string{"-ca", other}, `^starttls: TLS handshake: unknown authority: .*Whorl interop CA.*\n$`},
		{"another name", []string{"-server-name", "mail.test"}, `^starttls: TLS handshake: name mismatch: .*"localhost".*\n$`},
		{"another password", []string{"-password-file", wrong}, `^starttls: login: AUTH PLAIN: refused with "535 .*\n$`},
		{"unknown recipient", []string{"-to", "nobody@mail.test"}, `^starttls: mail: RCPT TO: refused with "550 .*\n$`},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, stdout, stderr := send(p.plain, test.args...)
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
	if p.mailbox() != before {
		t.Error(fmt.Sprint("a mail has come nevertheless:\n", p.mailbox()))
	}
}

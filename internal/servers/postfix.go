//go:build linux

package servers

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// mainCF is a mail system that delivers to one user of mail.test.
const mainCF = `
compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
maillog_file = DIR/postfix.log
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
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
smtpd_tls_cert_file = DIR/cert.pem
smtpd_tls_key_file = DIR/key.pem
smtpd_tls_security_level = encrypt
smtpd_relay_restrictions = reject_unauth_destination
`

const masterCF = `
cleanup  unix       n  -  n  -     0  cleanup
qmgr     unix       n  -  n  300   1  qmgr
rewrite  unix       -  -  n  -     -  trivial-rewrite
bounce   unix       -  -  n  -     0  bounce
defer    unix       -  -  n  -     0  bounce
trace    unix       -  -  n  -     0  bounce
error    unix       -  -  n  -     -  error
virtual  unix       -  n  n  -     -  virtual
tlsmgr   unix       -  -  n  1000? 1  tlsmgr
anvil    unix       -  -  n  -     1  anvil
proxymap unix       -  -  n  -     -  proxymap
postlog  unix-dgram n  -  n  -     1  postlogd
`

// A Postfix is a mail system of its own, apart from the machine's. It takes mail over TLS only, and
// delivers what comes for bob@mail.test. Its configuration is in the folder etc, and data belongs
// to the user postfix.
type Postfix struct {
	*Folder
	CA *devca.CA // that has issued its certificate
}

// NewPostfix prepares a Postfix, whose main.cf gets more lines.
func NewPostfix(t testing.TB, config string) *Postfix {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("postfix has to be started by root")
	}
	p := &Postfix{Folder: NewFolder(t), CA: NewCA(t)}
	p.Certify(p.CA)
	p.Write("etc/main.cf", strings.ReplaceAll(mainCF, "DIR", p.Dir)+config)
	for folder, owner := range map[string]string{"queue": "root", "data": "postfix", "mail": "nobody"} {
		leaktest.Check(t, os.Mkdir(p.Path(folder), 0o755))
		p.Give(folder, owner)
	}
	return p
}

// Start starts it with an smtpd for each of the options, as master.cf takes them. It returns where
// each of these listens.
func (p *Postfix) Start(options ...string) (addrs []string) {
	p.t.Helper()
	services := masterCF
	for _, option := range options {
		addr, _ := FreeAddress(p.t)
		addrs = append(addrs, addr)
		services += fmt.Sprintf("%s inet n - n - - smtpd %s\n", addr, option)
	}
	p.Write("etc/master.cf", services)
	program := Find(p.t, "postfix")
	server := p.Folder.Start(program, "-c", p.Path("etc"), "start-fg")
	p.t.Cleanup(func() { // before the process is ended, whose group the master has left
		if out, err := exec.Command(program, "-c", p.Path("etc"), "stop").CombinedOutput(); err != nil {
			p.t.Errorf("postfix stop: %v: %s", err, out)
		}
		if log, _ := os.ReadFile(p.Path("postfix.log")); p.t.Failed() {
			p.t.Logf("the log of postfix:\n%s", log)
		}
	})
	for _, addr := range addrs {
		server.Dial("tcp", addr).Close()
	}
	return addrs
}

// Mailbox returns what bob has got.
func (p *Postfix) Mailbox() string {
	content, _ := os.ReadFile(p.Path("mail/bob")) // which isn't there before the first mail
	return string(content)
}

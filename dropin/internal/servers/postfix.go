//go:build linux

package servers

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// mainCF is a mail system that delivers to one user of mail.test, and only over TLS.
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
virtual_uid_maps = static:UID
virtual_gid_maps = static:GID
smtpd_tls_cert_file = DIR/cert.pem
smtpd_tls_key_file = DIR/key.pem
smtpd_relay_restrictions = reject_unauth_destination
`

const masterCF = `
ADDR     inet       n  -  n  -     -  smtpd -o smtpd_tls_security_level=encrypt
WRAPPED  inet       n  -  n  -     -  smtpd -o smtpd_tls_wrappermode=yes -o smtpd_tls_security_level=encrypt
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

// StartPostfix starts a Postfix of its own, apart from the machine's: STARTTLS at Addr, TLS from the first byte on at TLSAddr. It wants root. What bob@mail.test
// gets is in the file mail/bob of its Dir.
func StartPostfix(t testing.TB) *Server {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("postfix has to be started by root")
	}
	program := find(t, "postfix", "/usr/sbin")
	h := newHome(t, "root")
	if err := os.Chmod(h.dir, 0o755); err != nil { // its programs run as several users
		t.Fatal(err)
	}
	addr, _ := freeAddress(t)
	wrapped, _ := freeAddress(t)
	fill := strings.NewReplacer("DIR", h.dir, "UID", "65534", "GID", "65534", "ADDR", addr, "WRAPPED", wrapped).Replace
	for folder, owner := range map[string]string{"etc": "root", "queue": "root", "data": "postfix", "mail": "nobody"} {
		if err := os.Mkdir(h.path(folder), 0o755); err != nil {
			t.Fatal(err)
		}
		u := credential(t, owner)
		if err := os.Chown(h.path(folder), int(u.Uid), int(u.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"main.cf": mainCF, "master.cf": masterCF} {
		if err := os.WriteFile(filepath.Join(h.dir, "etc", name), []byte(fill(text)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	over := h.serve(syscall.SIGTERM, program, "-c", h.path("etc"), "start-fg")
	t.Cleanup(func() { // before serve's: the master has left the process group that would be ended there
		if out, err := exec.Command(program, "-c", h.path("etc"), "stop").CombinedOutput(); err != nil {
			t.Errorf("postfix stop: %v: %s", err, out)
		}
		if log, _ := os.ReadFile(h.path("postfix.log")); t.Failed() {
			t.Logf("the log of postfix:\n%s", log)
		}
	})
	h.eventually(over, accepts(addr))
	h.eventually(over, accepts(wrapped))
	s := h.server(addr, "")
	s.TLSAddr = wrapped
	return s
}

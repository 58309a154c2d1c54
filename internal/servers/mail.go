//go:build linux

package servers

import (
	"fmt"
	"os"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
)

// unpacked is where .ci/run unpacks packages that it can't install.
const unpacked = "/opt/whorl/"

// secured makes the folder of a server that clients trust by its TLS, and that root starts.
func secured(t testing.TB, name string) (s *Server, port string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatalf("%s has to be started by root", name)
	}
	return database(t, "root")
}

// up waits until the server that p is listens, and returns it.
func (s *Server) up(p *Process) *Server {
	s.t.Helper()
	p.Dial("tcp", s.Addr).Close()
	return s
}

const dovecotConf = `
protocols = imap pop3 lmtp sieve submission
listen = 127.0.0.1
base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/dovecot.log
hostname = mail.test
ssl = yes
ssl_cert = <DIR/cert.pem
ssl_key = <DIR/key.pem
auth_username_format = %%n
passdb {
  driver = static
  args = password=PASSWORD
}
userdb {
  driver = static
  args = uid=mail gid=mail home=DIR/mail/%%n
}
first_valid_uid = 1
mail_location = maildir:DIR/mail/%%n
postmaster_address = postmaster@mail.test
submission_relay_host = 127.0.0.1
submission_relay_port = RELAY
service imap-login {
  inet_listener imap {
    port = %s
  }
  inet_listener imaps {
    port = 0
  }
}
service pop3-login {
  inet_listener pop3 {
    port = %s
  }
  inet_listener pop3s {
    port = 0
  }
}
service submission-login {
  inet_listener submission {
    port = %s
  }
}
service managesieve-login {
  inet_listener sieve {
    port = %s
  }
}
service lmtp {
  inet_listener lmtp {
    address = 127.0.0.1
    port = %s
  }
}
`

// A Dovecot serves mail of every user, whose password is [DovecotPassword]; each has a maildir in
// the folder mail. Each address is host:port, in plaintext with STARTTLS.
type Dovecot struct {
	*Server                       // Addr is IMAP's
	POP3, LMTP, Submission, Sieve string
}

// DovecotPassword is everybody's at a Dovecot.
const DovecotPassword = "a-secret-of-the-tests"

// StartDovecot starts Dovecot, which hands on what is submitted to it to the SMTP server at the
// port of the loopback that relay is; "25" if that doesn't matter.
func StartDovecot(t testing.TB, relay string) *Dovecot {
	t.Helper()
	s, imap := secured(t, "dovecot")
	d := &Dovecot{Server: s}
	var ports [4]string
	for i, addr := range []*string{&d.POP3, &d.Submission, &d.Sieve, &d.LMTP} {
		*addr, ports[i] = FreeAddress(t)
	}
	text := fmt.Sprintf(dovecotConf, imap, ports[0], ports[1], ports[2], ports[3])
	conf := s.Write(
		"dovecot.conf",
		s.fill(text, "PASSWORD", DovecotPassword, "RELAY", relay),
	)
	leaktest.Check(t, os.Mkdir(s.Path("mail"), 0o755))
	s.Give("mail", "mail")
	p := s.Start(Find(t, "dovecot"), "-F", "-c", conf)
	s.logs("dovecot.log")
	for _, addr := range []string{s.Addr, d.POP3, d.Submission, d.Sieve, d.LMTP} {
		p.Dial("tcp", addr).Close()
	}
	return d
}

const eximConf = `
daemon_smtp_ports = PORT
local_interfaces = 127.0.0.1
primary_hostname = mail.test
exim_user = mail
exim_group = mail
never_users =
exim_path = PROGRAM
spool_directory = DIR/spool
log_file_path = DIR/exim-%slog
pid_file_path = DIR/exim.pid
tls_advertise_hosts = *
tls_certificate = DIR/cert.pem
tls_privatekey = DIR/key.pem
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
chunking_advertise_hosts = *
pipelining_advertise_hosts = *
host_lookup =
rfc1413_hosts =
keep_environment =
acl_smtp_rcpt = recipients
acl_smtp_data = everything
begin acl
recipients:
  deny local_parts = nobody
  accept
everything:
  accept
begin routers
everybody:
  driver = accept
  transport = mailbox
begin transports
mailbox:
  driver = appendfile
  file = DIR/mail/box
  user = mail
  group = mail
  no_mode_fail_narrower
`

// StartExim starts Exim, which takes mail for everybody but nobody, and delivers all of it to the
// file mail/box. Debian's package excludes that of Postfix, so .ci/run only unpacks it.
func StartExim(t testing.TB) *Server {
	t.Helper()
	s, port := secured(t, "exim")
	program := Find(t, "exim4", unpacked+"exim4-daemon-light/usr/sbin")
	conf := s.Write("exim.conf", s.fill(eximConf, "PORT", port, "PROGRAM", program))
	for _, folder := range []string{"spool", "mail"} {
		leaktest.Check(t, os.Mkdir(s.Path(folder), 0o755))
		s.Give(folder, "mail")
	}
	s.Give("", "mail") // for the logs
	s.Give("key.pem", "mail")
	p := s.Start(program, "-bdf", "-C", conf)
	s.logs("exim-mainlog", "exim-paniclog")
	return s.up(p)
}

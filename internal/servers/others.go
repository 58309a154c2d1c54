//go:build linux

package servers

import (
	"os"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
)

// fill fills in a configuration: DIR, and names with their values.
func (f *Folder) fill(text string, values ...string) string {
	return strings.NewReplacer(append([]string{"DIR", f.Dir}, values...)...).Replace(text)
}

// logs has files of the folder shown when the test has failed.
func (f *Folder) logs(names ...string) {
	f.t.Cleanup(func() {
		if !f.t.Failed() {
			return
		}
		for _, name := range names {
			log, _ := os.ReadFile(f.Path(name))
			f.t.Logf("%s:\n%s", name, log)
		}
	})
}

const vsftpdConf = `
listen=YES
listen_address=127.0.0.1
listen_port=PORT
background=NO
anonymous_enable=YES
anon_root=DIR/pub
ssl_enable=YES
allow_anon_ssl=YES
force_local_data_ssl=NO
force_local_logins_ssl=NO
ssl_ciphers=HIGH
rsa_cert_file=DIR/cert.pem
rsa_private_key_file=DIR/key.pem
secure_chroot_dir=DIR/empty
seccomp_sandbox=NO
`

// StartVsftpd starts an FTP server for anonymous users.
func StartVsftpd(t testing.TB) *Server {
	t.Helper()
	s, port := secured(t, "vsftpd")
	for _, folder := range []string{"pub", "empty"} {
		leaktest.Check(t, os.Mkdir(s.Path(folder), 0o755))
	}
	conf := s.Write("vsftpd.conf", s.fill(vsftpdConf, "PORT", port))
	return s.up(s.Start(Find(t, "vsftpd"), conf))
}

const slapdConf = `
include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_null
pidfile DIR/slapd.pid
argsfile DIR/slapd.args
TLSCACertificateFile DIR/ca.pem
TLSCertificateFile DIR/cert.pem
TLSCertificateKeyFile DIR/key.pem
database null
suffix "dc=test"
`

// StartSlapd starts an LDAP server without entries.
func StartSlapd(t testing.TB) *Server {
	t.Helper()
	s, _ := secured(t, "slapd")
	conf := s.Write("slapd.conf", s.fill(slapdConf))
	return s.up(s.Start(Find(t, "slapd"), "-h", "ldap://"+s.Addr+"/", "-f", conf, "-d", "0"))
}

const prosodyConf = `
run_as_root = true
daemonize = false
pidfile = "DIR/prosody.pid"
data_path = "DIR/data"
interfaces = { "127.0.0.1" }
c2s_ports = { C2S }
s2s_ports = { S2S }
modules_enabled = { "tls", "saslauth", "roster", "dialback", "disco" }
modules_disabled = { "posix", "admin_shell" }
log = { info = "*console" }
ssl = { certificate = "DIR/cert.pem", key = "DIR/key.pem" }
VirtualHost "localhost"
`

// StartProsody starts an XMPP server for the domain localhost, whose Addr is for clients, and
// returns where it listens for servers, too.
func StartProsody(t testing.TB) (s *Server, servers string) {
	t.Helper()
	s, c2s := secured(t, "prosody")
	servers, s2s := FreeAddress(t)
	leaktest.Check(t, os.Mkdir(s.Path("data"), 0o755))
	conf := s.Write("prosody.cfg.lua", s.fill(prosodyConf, "C2S", c2s, "S2S", s2s))
	p := s.Start(Find(t, "prosody"), "--config", conf)
	p.Dial("tcp", servers).Close()
	return s.up(p), servers
}

const inspircdConf = `
<server name="irc.test" description="tests" network="test">
<admin name="tests" nick="tests" email="tests@irc.test">
<bind address="127.0.0.1" port="PORT" type="clients">
<pid file="DIR/inspircd.pid">
<sslprofile name="Clients" provider="gnutls"
	certfile="DIR/cert.pem" keyfile="DIR/key.pem" cafile="DIR/ca.pem">
<module name="ssl_gnutls">
<module name="starttls">
<starttls provider="Clients">
<connect allow="*" resolvehostnames="no" useident="no">
`

// StartInspIRCd starts an IRC server.
func StartInspIRCd(t testing.TB) *Server {
	t.Helper()
	s, port := secured(t, "inspircd")
	conf := s.Write("inspircd.conf", s.fill(inspircdConf, "PORT", port))
	return s.up(s.Start(Find(t, "inspircd"), "--runasroot", "--nofork", "--nolog", "--config", conf))
}

const innConf = `
domain: test
pathhost: mail.test
mta: "/bin/true"
hismethod: hisv6
ovmethod: tradindexed
patharticles: DIR/articles
pathnews: DIR
pathbin: /opt/whorl/inn2/usr/lib/news/bin
pathdb: DIR/db
pathetc: DIR/etc
pathlog: DIR/log
pathrun: DIR/run
pathspool: DIR
pathtmp: DIR
tlscafile: DIR/ca.pem
tlscertfile: DIR/cert.pem
tlskeyfile: DIR/key.pem
`

// StartNNRPD starts the part of INN that serves readers of news. Debian's package can't be
// installed where the machine has no full name, so .ci/run only unpacks it.
func StartNNRPD(t testing.TB) *Server {
	t.Helper()
	s, port := secured(t, "nnrpd")
	const programs = unpacked + "inn2/usr/lib/news/bin"
	for _, folder := range []string{"articles", "db", "log", "run", "overview", "tmp"} {
		leaktest.Check(t, os.Mkdir(s.Path(folder), 0o755))
	}
	s.Write("etc/storage.conf", "method tradspool {\n newsgroups: *\n class: 0\n}\n")
	s.Write("etc/readers.conf", "auth \"all\" {\n hosts: \"*\"\n default: \"<reader>\"\n}\n"+
		"access \"all\" {\n users: \"*\"\n newsgroups: \"*\"\n}\n")
	s.Write("db/active", "local.test 0000000000 0000000001 y\n")
	s.Write("db/newsgroups", "local.test\tTests\n")
	s.Write("db/history", "")
	conf := s.Write("etc/inn.conf", s.fill(innConf))
	s.Set("INNCONF=" + conf)
	s.Set("LD_LIBRARY_PATH=" + unpacked + "inn2/usr/lib/news")
	s.RunBy("news")
	s.Run(Find(t, "makedbz", programs), "-i", "-o", "-f", s.Path("db/history"))
	s.Run(Find(t, "makehistory", programs), "-O", "-x") // the overview
	return s.up(s.Start(Find(t, "nnrpd", programs), "-D", "-f", "-p", port, "-4", "127.0.0.1"))
}

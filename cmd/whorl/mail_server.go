package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/whorl-go/whorl/smtp"
)

// mailServer is what --server, --security and --lmtp say.
type mailServer struct {
	address  string // "host:port", or the path of a Unix socket
	security string
	lmtp     bool
	user     string // of a URL
}

// schemes are the URLs of mail servers.
var schemes = map[string]struct {
	port     string
	security smtp.Security
}{
	"smtp":  {"587", smtp.Mandatory},
	"smtps": {"465", smtp.Implicit},
	"lmtp":  {"24", smtp.Mandatory},
}

// parse makes an address of what --server was given, and says what the session does about TLS.
func (s *mailServer) parse() (security smtp.Security, err error) {
	port, tls := "", false
	switch {
	case s.address == "":
		return security, errors.New("--server is missing")
	case strings.Contains(s.address, "://"):
		if port, security, err = s.parseURL(); err != nil {
			return security, fmt.Errorf("--server: %w", err)
		}
		tls = security == smtp.Implicit
	case strings.HasPrefix(s.address, "/"):
	default:
		host, number, err := net.SplitHostPort(s.address)
		if err != nil || host == "" {
			return security, fmt.Errorf("--server %q: want HOST:PORT, a URL, or a path", s.address)
		}
		port = number
		if port == "465" {
			security = smtp.Implicit
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return security, fmt.Errorf("--server: port %q: want a number from 1 to 65535", port)
	}
	if s.security == "" {
		return security, nil
	}
	asked, ok := map[string]smtp.Security{
		"mandatory": smtp.Mandatory, "implicit": smtp.Implicit, "opportunistic": smtp.Opportunistic,
	}[s.security]
	switch {
	case !ok:
		return asked, fmt.Errorf("--security %q: want mandatory, implicit or opportunistic",
			s.security)
	case tls && asked != security:
		return asked, errors.New("--security contradicts smtps://, which is TLS from the start")
	}
	return asked, nil
}

func (s *mailServer) parseURL() (port string, security smtp.Security, err error) {
	u, err := url.Parse(s.address)
	if err != nil {
		return "", security, errors.New("not a URL") // the error may have a password
	}
	scheme, ok := schemes[u.Scheme]
	_, password := u.User.Password()
	switch {
	case !ok:
		return "", security, fmt.Errorf("%s://: want smtp, smtps or lmtp", u.Scheme)
	case password:
		return "", security, errors.New("a password in a URL can be read by all users of this machine")
	case u.Hostname() == "":
		return "", security, errors.New("the host is missing")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return "", security, errors.New("nothing may follow the port")
	case s.lmtp && u.Scheme != "lmtp":
		return "", security, fmt.Errorf("--lmtp contradicts %s://", u.Scheme)
	}
	s.user, s.lmtp = u.User.Username(), u.Scheme == "lmtp"
	port = or(u.Port(), scheme.port)
	s.address = net.JoinHostPort(u.Hostname(), port)
	return port, scheme.security, nil
}

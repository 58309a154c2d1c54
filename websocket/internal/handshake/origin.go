package handshake

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// CheckOrigin says whether a request may come from the page that it comes from (RFC 6455, section
// 10.2). A request without Origin is no browser's, and is let in. Otherwise the page must be of the
// host and port that the request is for, or match one of the patterns:
//
//	example.com                 of this host, http or https, on the scheme's own port
//	https://example.com:8443    of this scheme, host and port
//	*.example.com               * stands for one label of the name,
//	example.com:*               or for any port
//	*                           of any host, also "Origin: null"
//
// Case doesn't matter. A Host without a port is taken for the port of the request's TLS, or if it
// came without, as behind a proxy, for that of Origin's scheme.
func CheckOrigin(r *http.Request, patterns []string) bool {
	lines := r.Header["Origin"]
	if len(lines) == 0 {
		return true
	}
	for _, pattern := range patterns {
		if pattern == "*" {
			return true
		}
	}
	if len(lines) != 1 {
		return false
	}
	page, ok := parseOrigin(trim(lines[0]))
	if !ok {
		return false
	}
	fallback := defaultPort(page.scheme)
	if r.TLS != nil {
		fallback = defaultPort("https")
	}
	if host, port, ok := splitHost(r.Host); ok && host == page.host {
		if port == "" {
			port = fallback
		}
		if port == page.port {
			return true
		}
	}
	for _, pattern := range patterns {
		if page.matches(pattern) {
			return true
		}
	}
	return false
}

// An origin is a scheme, a host and a port, in lower case.
type origin struct{ scheme, host, port string }

// parseOrigin reads the form that RFC 6454 gives an origin: nothing but scheme, host and port.
func parseOrigin(s string) (origin, bool) {
	scheme, authority, ok := strings.Cut(s, "://")
	if !ok || scheme == "" {
		return origin{}, false
	}
	host, port, ok := splitHost(authority)
	if !ok {
		return origin{}, false
	}
	scheme = strings.ToLower(scheme)
	if port == "" {
		port = defaultPort(scheme)
	}
	return origin{scheme, host, port}, true
}

// matches says whether o matches a pattern that CheckOrigin explains.
func (o origin) matches(pattern string) bool {
	pattern = strings.ToLower(pattern)
	if scheme, rest, ok := strings.Cut(pattern, "://"); ok {
		if scheme != o.scheme {
			return false
		}
		pattern = rest
	}
	pattern, anyPort := strings.CutSuffix(pattern, ":*")
	host, port, ok := splitHost(pattern)
	if !ok || host == "" {
		return false
	}
	if port == "" {
		port = defaultPort(o.scheme)
	}
	if !anyPort && port != o.port {
		return false
	}
	labels, own := strings.Split(host, "."), strings.Split(o.host, ".")
	if len(labels) != len(own) {
		return false
	}
	for i, label := range labels {
		if label != own[i] && (label != "*" || own[i] == "") {
			return false
		}
	}
	return true
}

// splitHost splits what stands in Host, in lower case and without the brackets of IPv6 addresses.
// port is "" if there is none.
func splitHost(s string) (host, port string, ok bool) {
	if strings.ContainsAny(s, "/?#@\\ ") {
		return "", "", false
	}
	u, err := url.Parse("//" + s)
	if err != nil || u.Hostname() == "" {
		return "", "", false
	}
	host = strings.ToLower(u.Hostname())
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.String()
	}
	return host, u.Port(), true
}

func defaultPort(scheme string) string {
	switch scheme {
	case "http", "ws":
		return "80"
	case "https", "wss":
		return "443"
	}
	return ""
}

package websocket

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/whorl-go/whorl/internal/proxy"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// A DialError says at which layer connecting has failed, and why.
type DialError struct {
	Layer  string // "URL", "DNS", "proxy", "TCP", "TLS", "HTTP" or "WebSocket"
	URL    string
	Status int // of the response, with "HTTP"
	Err    error
}

func (e *DialError) Error() string {
	return fmt.Sprintf("websocket: connect to %s: %s: %v", e.URL, e.Layer, e.Err)
}

func (e *DialError) Unwrap() error { return e.Err }

// Timeout makes it a net.Error.
func (e *DialError) Timeout() bool {
	var timeout net.Error
	return errors.As(e.Err, &timeout) && timeout.Timeout()
}

// Temporary belongs to net.Error, and is false.
func (e *DialError) Temporary() bool { return false }

// target is where a URL leads.
type target struct {
	url              *url.URL
	network, address string
}

// parse reads a URL: ws://host:port/path?query, wss://…, or ws+unix:///path/of/socket:/path.
func parse(raw string) (*target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	t := &target{url: u}
	switch u.Scheme {
	case "ws", "wss":
		port := u.Port()
		if t.network = "tcp"; u.Scheme == "wss" {
			t.network = "tls"
		}
		if port == "" {
			if port = "80"; u.Scheme == "wss" {
				port = "443"
			}
		}
		t.address = net.JoinHostPort(u.Hostname(), port)
	case "ws+unix":
		path, request, _ := strings.Cut(u.Path, ":")
		t.network, t.address = "unix", path
		t.url = &url.URL{
			Scheme:   "ws",
			Host:     "localhost",
			Path:     "/" + strings.TrimPrefix(request, "/"),
			RawQuery: u.RawQuery,
		}
	default:
		return nil, fmt.Errorf("the scheme %q is none of ws, wss and ws+unix", u.Scheme)
	}
	switch {
	case t.network != "unix" && u.Hostname() == "", t.address == "":
		return nil, errors.New("there is no host")
	case u.Fragment != "":
		return nil, errors.New("a WebSocket URL has no fragment (RFC 6455, section 3)")
	case u.User != nil:
		return nil, errors.New("credentials go into Header, as Authorization")
	}
	return t, nil
}

// host is the value of Host: without the port that the scheme stands for.
func host(u *url.URL) string {
	if port := u.Port(); port == "80" && u.Scheme == "ws" || port == "443" && u.Scheme == "wss" {
		return strings.TrimSuffix(u.Host, ":"+port)
	}
	return u.Host
}

// layerOf says where connecting has failed.
func layerOf(err error) string {
	if _, ok := errors.AsType[*explain.HandshakeError](err); ok {
		return "TLS"
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "DNS"
	}
	if _, ok := errors.AsType[*proxy.Error](err); ok {
		return "proxy"
	}
	return "TCP"
}

package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/whorl-go/whorl/internal/dialing"
	"github.com/whorl-go/whorl/internal/option"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/dialect"
)

// Context has the options of streams, as the contexts of PHP do. It never changes; any number of
// streams may share one. Those that do share their TLS sessions, and the files that the options
// name are read once. Values are as in PHP: see dialect.SwooleClient. An option that can't be
// honoured is an error.
//
// "ssl" has the options of dialect.PHPClient and dialect.PHPServer. Peers are verified unless
// verify_peer says otherwise. The files are read when TLS begins: by SocketClient and SocketServer
// for transports that begin with TLS, else by EnableCrypto.
//
// "socket" has these:
//
//	bindto         a client's own address: "192.0.2.1:0", "[2001:db8::1]:7000", "0:7000"
//	backlog        of a server (socket.DefaultBacklog)
//	ipv6_v6only    a server at an IPv6 address takes no IPv4 connections (as the system says)
//	so_reuseport   several servers may be bound to one address
//	so_reuseaddr   of a server; only true, which it always is
//	so_broadcast   datagrams may be sent to broadcast addresses
//	tcp_nodelay    small segments are sent at once (true; PHP's default is false)
//	so_keepalive   TCP looks whether an idle peer is still there; tcp_keepidle, tcp_keepintvl (seconds) and tcp_keepcnt say when and how often
type Context struct {
	options map[string]map[string]any

	mu      runtime.Mutex                      // held while files are read
	clients map[CryptoMethod]*tlsconfig.Client // guarded by mu
	servers map[CryptoMethod]*tlsconfig.Server // guarded by mu
}

// withoutOptions is the context of streams that were given none.
var withoutOptions = sync.OnceValue(func() *Context { return new(Context) })

// ContextCreate makes a context of options: by wrapper, "ssl" or "socket", and by name.
func ContextCreate(options map[string]map[string]any) (*Context, error) {
	c := &Context{options: make(map[string]map[string]any, len(options))}
	for wrapper, values := range options {
		if wrapper != "ssl" && wrapper != "socket" {
			return nil, fmt.Errorf(
				"stream context: %q: no such wrapper; there are ssl and socket",
				wrapper,
			)
		}
		c.options[wrapper] = maps.Clone(values)
	}
	_, err := c.socketSettings(nil, false)
	return c, err
}

// With returns the context with one more option, or with another value for one; nil takes it out.
func (c *Context) With(wrapper, option string, value any) (*Context, error) {
	options := c.Options()
	if options[wrapper] == nil {
		options[wrapper] = make(map[string]any)
	}
	options[wrapper][option] = value
	return ContextCreate(options)
}

// Options returns a copy of the options.
func (c *Context) Options() map[string]map[string]any {
	options := make(map[string]map[string]any, len(c.options))
	for wrapper, values := range c.options {
		options[wrapper] = maps.Clone(values)
	}
	return options
}

// names reports whether an option has a value.
func (c *Context) names(wrapper, option string) bool { return c.options[wrapper][option] != nil }

// A OptionError says which option of a context can't be honoured, and why.
type OptionError struct {
	Wrapper, Option string
	Err             error
}

func (e *OptionError) Error() string {
	return fmt.Sprintf("stream context: %s.%s: %v", e.Wrapper, e.Option, e.Err)
}

// Unwrap returns the cause.
func (e *OptionError) Unwrap() error { return e.Err }

// sslOptions returns the ssl options for a normal method. One that names versions stands in for
// crypto_method; one for any version leaves that to the options.
func (c *Context) sslOptions(method CryptoMethod) map[string]any {
	options := maps.Clone(c.options["ssl"])
	if options == nil {
		options = make(map[string]any)
	}
	if name, ok := options["peer_name"].(string); ok {
		if ascii, err := dialing.ASCII(name); err == nil { // else there is no such name to be found
			options["peer_name"] = ascii
		}
	}
	if method&^cryptoClient != 0 {
		options["crypto_method"] = int(method)
	} else if old, err := option.Int(options["crypto_method"]); err == nil && old != 0 && CryptoMethod(old).normal(false) == method {
		delete(options, "crypto_method") // any version, of the same side
	}
	return options
}

// sslFailed gives an error of tlsconfig the form of the context's own.
func sslFailed(err error) error {
	if all, ok := err.(option.Mistakes); ok {
		own := slices.Clone(all)
		for i, err := range own {
			own[i] = sslFailed(err)
		}
		return own
	}
	if e, ok := errors.AsType[*tlsconfig.OptionError](err); ok {
		return &OptionError{Wrapper: "ssl", Option: e.Option, Err: e.Err}
	}
	return err
}

// loaded returns what a context has made of its options for a method, and makes it if need be: load
// reads files.
func loaded[T any](
	ctx context.Context,
	mu *runtime.Mutex,
	made *map[CryptoMethod]T,
	method CryptoMethod,
	load func() (T, error),
) (T, error) {
	var zero T
	if err := mu.Lock(ctx); err != nil {
		return zero, err
	}
	defer mu.Unlock()
	if have, ok := (*made)[method]; ok {
		return have, nil
	}
	fresh, err := runtime.Await(ctx, load)
	if err != nil {
		return zero, sslFailed(err)
	}
	if *made == nil {
		*made = make(map[CryptoMethod]T)
	}
	(*made)[method] = fresh
	return fresh, nil
}

// client returns the configurations for clients.
func (c *Context) client(ctx context.Context, method CryptoMethod) (*tlsconfig.Client, error) {
	return loaded(ctx, &c.mu, &c.clients, method, func() (*tlsconfig.Client, error) {
		base, err := dialect.PHPClient(c.sslOptions(method))
		if err != nil {
			return nil, err
		}
		return tlsconfig.NewClient(base), nil
	})
}

// server returns the configuration for servers.
func (c *Context) server(ctx context.Context, method CryptoMethod) (*tls.Config, error) {
	s, err := loaded(ctx, &c.mu, &c.servers, method, func() (*tlsconfig.Server, error) {
		options, err := dialect.PHPServer(c.sslOptions(method))
		if err != nil {
			return nil, err
		}
		return tlsconfig.NewServer(options)
	})
	if err != nil {
		return nil, err
	}
	return s.Config(), nil
}

// socketSettings reads the socket options for a stream: what can't be honoured for its transport
// and role is an error. Without a URL only the values are looked at.
func (c *Context) socketSettings(u *streamURL, server bool) (*streamSettings, error) {
	table := make(option.Table[streamSettings], len(streamSocketOptions))
	for name, o := range streamSocketOptions {
		table[name] = o.setter(u, server)
	}
	s := new(streamSettings)
	err := table.Set(s, c.options["socket"], func(name string, err error) error {
		return &OptionError{Wrapper: "socket", Option: name, Err: err}
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

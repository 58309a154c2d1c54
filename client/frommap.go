package client

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-go/whorl/internal/phpvalue"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/tlsconfig"
)

// FromMap returns the Config that options ask for, under Swoole's names. An option that is absent or nil (PHP's null) is at its default. It reads the files that
// ssl_* options name, so it may block: call it off the event loop, and once.
//
//	open_eof_check, open_eof_split   packets end with package_eof; the two mean the same
//	package_eof                      the delimiter, of any length (Swoole: up to 8 bytes)
//	open_length_check                packets have a length field, even if EOF framing is on too
//	package_length_type ("N")        a letter of PHP's pack(), see packet.LengthField
//	package_length_offset (0)        where the field is
//	package_body_offset (0)          bytes that the field doesn't count; also named package_body_start
//	package_length_func              instead of the field: func([]byte) int, func([]byte) (int, error) or func(string) int
//	package_max_length (2M)          bytes, or a size such as "512K"
//	timeout                          for connecting, reading, writing and the TLS handshake each, where no other option says otherwise
//	connect_timeout, read_timeout, write_timeout
//	bind_address, bind_port          where to connect from: an IP address, or the path of a Unix socket
//	socket_buffer_size               of both of the kernel's buffers: bytes, or a size
//	open_tcp_nodelay (true)
//	socks5_host, socks5_port, socks5_username, socks5_password
//	http_proxy_host, http_proxy_port, http_proxy_user, http_proxy_password   also named http_proxy_username
//	ssl_…                            see tlsconfig.FromOptions
//
// Times are in seconds, integer or float, with one millisecond as the least, or a time.Duration; 0 is the default, negative is none. Integers may be of any integer type, or
// a float64 without a fraction; booleans may be the integers 0 and 1.
//
// Nothing is dropped in silence. An unknown name is an error, and so are options of Swoole's that can't be honoured, options whose switch is
// missing (package_eof without open_eof_check; with open_eof_check set to false it is all right) and those that contradict each other. Every error
// names the option.
func FromMap(options map[string]any) (Config, error) {
	var o swooleOptions
	ssl := make(map[string]any)
	// Sorted, so that of two mistakes always the same one is reported.
	for _, name := range slices.Sorted(maps.Keys(options)) {
		value := options[name]
		set, known := setters[name]
		why, refused := notHonoured[name]
		switch {
		case tlsconfig.IsOption(name):
			ssl[name] = value
		case !known && !refused:
			return Config{}, optionError(name, errors.New("no such option"))
		case value == nil:
		case refused:
			if on, err := phpvalue.Bool(value); err != nil || on {
				return Config{}, optionError(name, errors.New("can't be honoured: "+why))
			}
		default:
			if err := set(&o, value); err != nil {
				return Config{}, optionError(name, err)
			}
		}
	}
	config, err := o.config()
	if err == nil && len(ssl) > 0 {
		if config.TLS, err = tlsconfig.FromOptions(ssl); err != nil {
			err = fmt.Errorf("client: %w", err)
		}
	}
	if err != nil {
		return Config{}, err
	}
	return config, nil
}

func optionError(name string, err error) error { return fmt.Errorf("client: option %s: %w", name, err) }

// notHonoured are options that Swoole knows. To switch one off asks for nothing.
var notHonoured = map[string]string{
	"open_fastcgi_protocol":   "say package_length_func",
	"open_http2_protocol":     "a Client has no HTTP",
	"open_http_protocol":      "a Client has no HTTP",
	"open_mqtt_protocol":      "say package_length_func",
	"open_redis_protocol":     "a Client has no Redis",
	"open_ssl":                `connect to network "tls", or call EnableSSL`,
	"open_tcp_keepalive":      "an option of servers; set Config.KeepAlive",
	"open_websocket_protocol": "use package websocket",
	"socket_connect_timeout":  "an option of Co::set; say connect_timeout",
	"socket_dns_timeout":      "an option of Co::set; connect_timeout covers DNS too",
	"socket_read_timeout":     "an option of Co::set; say read_timeout",
	"socket_recv_timeout":     "an option of Co::set; say read_timeout",
	"socket_send_timeout":     "an option of Co::set; say write_timeout",
	"socket_timeout":          "an option of Co::set; say timeout",
	"socket_write_timeout":    "an option of Co::set; say write_timeout",
	"tcp_keepcount":           "an option of servers; set Config.KeepAlive",
	"tcp_keepidle":            "an option of servers; set Config.KeepAlive",
	"tcp_keepinterval":        "an option of servers; set Config.KeepAlive",
	"tcp_user_timeout":        "an option of servers; use Socket().SetOption",
}

// swooleOptions is what the options of one map ask for. nil and "" are: not given.
type swooleOptions struct {
	// Framing
	eofCheck, eofSplit, lengthCheck     *bool
	eof, lengthType                     *string
	lengthOffset, bodyOffset, bodyStart *int
	lengthFunc                          func([]byte) (int, error)
	maxLength                           int

	timeout, connectTimeout, readTimeout, writeTimeout time.Duration

	// Socket
	bindAddress string
	bindPort    *int
	bufferSize  int
	noDelay     *bool

	socks5, httpProxy proxyOptions
}

type proxyOptions struct {
	host, user, username, password string
	port                           *int
}

type setter func(*swooleOptions, any) error

var setters = map[string]setter{
	"open_eof_check":        given(phpvalue.Bool, func(o *swooleOptions) **bool { return &o.eofCheck }),
	"open_eof_split":        given(phpvalue.Bool, func(o *swooleOptions) **bool { return &o.eofSplit }),
	"package_eof":           given(phpvalue.Text, func(o *swooleOptions) **string { return &o.eof }),
	"open_length_check":     given(phpvalue.Bool, func(o *swooleOptions) **bool { return &o.lengthCheck }),
	"package_length_type":   given(lengthType, func(o *swooleOptions) **string { return &o.lengthType }),
	"package_length_offset": given(phpvalue.Offset, func(o *swooleOptions) **int { return &o.lengthOffset }),
	"package_body_offset":   given(phpvalue.Offset, func(o *swooleOptions) **int { return &o.bodyOffset }),
	"package_body_start":    given(phpvalue.Offset, func(o *swooleOptions) **int { return &o.bodyStart }),
	"package_length_func":   plain(lengthFunc, func(o *swooleOptions) *func([]byte) (int, error) { return &o.lengthFunc }),
	"package_max_length":    plain(phpvalue.Size, func(o *swooleOptions) *int { return &o.maxLength }),

	"timeout":         plain(phpvalue.Seconds, func(o *swooleOptions) *time.Duration { return &o.timeout }),
	"connect_timeout": plain(phpvalue.Seconds, func(o *swooleOptions) *time.Duration { return &o.connectTimeout }),
	"read_timeout":    plain(phpvalue.Seconds, func(o *swooleOptions) *time.Duration { return &o.readTimeout }),
	"write_timeout":   plain(phpvalue.Seconds, func(o *swooleOptions) *time.Duration { return &o.writeTimeout }),

	"bind_address":       plain(localAddress, func(o *swooleOptions) *string { return &o.bindAddress }),
	"bind_port":          given(phpvalue.AnyPort, func(o *swooleOptions) **int { return &o.bindPort }),
	"socket_buffer_size": plain(phpvalue.Size, func(o *swooleOptions) *int { return &o.bufferSize }),
	"open_tcp_nodelay":   given(phpvalue.Bool, func(o *swooleOptions) **bool { return &o.noDelay }),

	"socks5_host":         plain(phpvalue.Filled, func(o *swooleOptions) *string { return &o.socks5.host }),
	"socks5_port":         given(phpvalue.Port, func(o *swooleOptions) **int { return &o.socks5.port }),
	"socks5_username":     plain(phpvalue.Text, func(o *swooleOptions) *string { return &o.socks5.username }),
	"socks5_password":     plain(phpvalue.Text, func(o *swooleOptions) *string { return &o.socks5.password }),
	"http_proxy_host":     plain(phpvalue.Filled, func(o *swooleOptions) *string { return &o.httpProxy.host }),
	"http_proxy_port":     given(phpvalue.Port, func(o *swooleOptions) **int { return &o.httpProxy.port }),
	"http_proxy_user":     plain(phpvalue.Text, func(o *swooleOptions) *string { return &o.httpProxy.user }),
	"http_proxy_username": plain(phpvalue.Text, func(o *swooleOptions) *string { return &o.httpProxy.username }),
	"http_proxy_password": plain(phpvalue.Text, func(o *swooleOptions) *string { return &o.httpProxy.password }),
}

// plain sets a field for which the zero value means that the option was not given.
func plain[T any](convert func(any) (T, error), field func(*swooleOptions) *T) setter {
	return func(o *swooleOptions, value any) (err error) {
		*field(o), err = convert(value)
		return err
	}
}

// given sets a field for which it matters that the option was given.
func given[T any](convert func(any) (T, error), field func(*swooleOptions) **T) setter {
	return func(o *swooleOptions, value any) error {
		converted, err := convert(value)
		*field(o) = &converted
		return err
	}
}

// config puts the configuration together.
func (o *swooleOptions) config() (Config, error) {
	c := Config{
		MaxPacket:        o.maxLength,
		ConnectTimeout:   cmp.Or(o.connectTimeout, o.timeout),
		ReadTimeout:      cmp.Or(o.readTimeout, o.timeout),
		WriteTimeout:     cmp.Or(o.writeTimeout, o.timeout),
		HandshakeTimeout: o.timeout,
		Nagle:            o.noDelay != nil && !*o.noDelay,
		ReceiveBuffer:    o.bufferSize,
		SendBuffer:       o.bufferSize,
	}
	if err := o.framing(&c); err != nil {
		return c, err
	}
	switch path := strings.ContainsAny(o.bindAddress, "/@"); {
	case o.bindAddress == "" && o.bindPort != nil:
		return c, optionError("bind_port", errors.New("needs bind_address"))
	case path && o.bindPort != nil:
		return c, optionError("bind_port", errors.New("bind_address is the path of a Unix socket"))
	case path:
		c.LocalAddress = o.bindAddress
	case o.bindAddress != "":
		c.LocalAddress = net.JoinHostPort(o.bindAddress, strconv.Itoa(value(o.bindPort)))
	}
	var err error
	c.Proxy, err = o.proxy()
	return c, err
}

// value returns what p points to, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func (o *swooleOptions) framing(c *Config) error {
	eof := value(o.eofCheck) || value(o.eofSplit)
	switch {
	case eof && value(o.eof) == "":
		return optionError("package_eof", errors.New("is empty, but open_eof_check or open_eof_split is on"))
	case !eof && o.eof != nil && o.eofCheck == nil && o.eofSplit == nil:
		return optionError("package_eof", errors.New("needs open_eof_check or open_eof_split"))
	case o.bodyOffset != nil && o.bodyStart != nil && *o.bodyOffset != *o.bodyStart:
		return optionError("package_body_start", errors.New("is another name for package_body_offset, and contradicts it"))
	}
	if o.lengthCheck == nil {
		for _, of := range []struct {
			name  string
			given bool
		}{
			{"package_length_type", o.lengthType != nil},
			{"package_length_offset", o.lengthOffset != nil},
			{"package_body_offset", o.bodyOffset != nil},
			{"package_body_start", o.bodyStart != nil},
			{"package_length_func", o.lengthFunc != nil},
		} {
			if of.given {
				return optionError(of.name, errors.New("needs open_length_check"))
			}
		}
	}
	switch {
	case value(o.lengthCheck) && o.lengthFunc != nil:
		c.Length.Func = o.lengthFunc
	case value(o.lengthCheck):
		c.Length = packet.LengthField{Type: 'N', Offset: value(o.lengthOffset), BodyOffset: max(value(o.bodyOffset), value(o.bodyStart))}
		if o.lengthType != nil {
			c.Length.Type = (*o.lengthType)[0]
		}
	case eof:
		c.EOF = *o.eof
	}
	if _, err := c.framer(); err != nil { // each option for itself is right, so it is the limit that doesn't fit them
		return optionError("package_max_length", errors.Unwrap(err))
	}
	return nil
}

// proxy returns the proxy that the options name, nil if none.
func (o *swooleOptions) proxy() (*Proxy, error) {
	if o.socks5.host != "" && o.httpProxy.host != "" {
		return nil, optionError("http_proxy_host", errors.New("socks5_host names another proxy"))
	}
	h := &o.httpProxy
	if h.user != "" && h.username != "" && h.user != h.username {
		return nil, optionError("http_proxy_username", errors.New("is another name for http_proxy_user, and contradicts it"))
	}
	h.username = cmp.Or(h.username, h.user)
	if p := &o.socks5; p.username != "" && p.password == "" {
		return nil, optionError("socks5_password", errors.New("is missing for socks5_username"))
	}
	for _, kind := range []struct {
		name, prefix string
		*proxyOptions
	}{{"socks5", "socks5_", &o.socks5}, {"http", "http_proxy_", h}} {
		if p, err := kind.proxy(kind.name, kind.prefix); p != nil || err != nil {
			return p, err
		}
	}
	return nil, nil
}

func (p *proxyOptions) proxy(kind, prefix string) (*Proxy, error) {
	switch {
	case p.password != "" && p.username == "":
		return nil, optionError(prefix+"password", errors.New("needs a user name"))
	case p.host == "" && p.port != nil:
		return nil, optionError(prefix+"port", errors.New("needs "+prefix+"host"))
	case p.host == "" && p.username != "":
		return nil, optionError(prefix+"host", errors.New("is missing, but there is a user name"))
	case p.host == "":
		return nil, nil
	case p.port == nil:
		return nil, optionError(prefix+"port", errors.New("is missing for "+prefix+"host"))
	}
	return &Proxy{
		Type:     kind,
		Address:  net.JoinHostPort(p.host, strconv.Itoa(*p.port)),
		User:     p.username,
		Password: p.password,
	}, nil
}

// localAddress takes an IP address, or the path of a Unix socket.
func localAddress(value any) (string, error) {
	address, err := phpvalue.Filled(value)
	if err != nil || strings.ContainsAny(address, "/@") {
		return address, err
	}
	if _, err := netip.ParseAddr(address); err != nil {
		return "", errors.New("want an IP address, or the path of a Unix socket")
	}
	return address, nil
}

package swoole

import (
	"cmp"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/option"
	"github.com/whorl-go/whorl/tlsconfig/dialect"
)

// ClientFromMap returns the Config that the options of a client ask for. It reads the files that
// ssl_* options name, so it may block: call it off the event loop, and once.
//
//	open_eof_check, open_eof_split   packets end with package_eof; the two mean the same
//	package_eof                      the delimiter, of any length (Swoole: up to 8 bytes)
//	open_length_check                packets have a length field, even if EOF framing is on too
//	package_length_type ("N")        a letter of PHP's pack(), see packet.LengthField
//	package_length_offset (0)        where the field is
//	package_body_offset (0)          bytes that it doesn't count; also named package_body_start
//	package_length_func              instead of the field: func([]byte) int, func([]byte) (int, error)
//	                                 or func(string) int
//	package_max_length (2M)          bytes, or a size
//	timeout                          of connecting, reading, writing and the TLS handshake each, where
//	connect_timeout, read_timeout, write_timeout   don't say otherwise
//	bind_address, bind_port          where to connect from: an IP address, or a Unix socket's path
//	socket_buffer_size               of both of the kernel's buffers: bytes, or a size
//	open_tcp_nodelay (true)
//	open_tcp_keepalive (true)        Config.KeepAlive, with its defaults (Swoole: servers only)
//	tcp_keepidle, tcp_keepinterval, tcp_keepcount
//	socks5_host, socks5_port, socks5_username, socks5_password
//	http_proxy_host, http_proxy_port, http_proxy_password
//	http_proxy_user                  also named http_proxy_username
//	ssl_…                            see dialect.SwooleClient
func ClientFromMap(options map[string]any) (client.Config, error) {
	ssl, others := sslOptions(options)
	o := new(clientOptions)
	var config client.Config
	err := clientTable.Set(o, others, ofOption)
	if err == nil {
		config, err = o.config()
	}
	var wrong error
	if len(ssl) > 0 {
		config.TLS, wrong = dialect.SwooleClient(ssl)
	}
	if err := (option.Mistakes{err, wrong}).Err(); err != nil {
		return client.Config{}, err
	}
	return config, nil
}

// clientOptions is what the options of one map ask for. nil and "" are: not given.
type clientOptions struct {
	framing   framing
	keepAlive keepAlive

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

var clientTable = newClientTable()

func newClientTable() option.Table[clientOptions] {
	type o = clientOptions
	table := framingTable(func(o *o) *framing { return &o.framing })
	maps.Copy(table, keepAliveTable(func(o *o) *keepAlive { return &o.keepAlive }))
	maps.Copy(table, option.Table[o]{
		"timeout": option.Store(option.Seconds,
			func(o *o) *time.Duration { return &o.timeout }),
		"connect_timeout": option.Store(option.Seconds,
			func(o *o) *time.Duration { return &o.connectTimeout }),
		"read_timeout": option.Store(option.Seconds,
			func(o *o) *time.Duration { return &o.readTimeout }),
		"write_timeout": option.Store(option.Seconds,
			func(o *o) *time.Duration { return &o.writeTimeout }),

		"bind_address": option.Store(localAddress,
			func(o *o) *string { return &o.bindAddress }),
		"bind_port": option.StoreGiven(option.AnyPort,
			func(o *o) **int { return &o.bindPort }),
		"socket_buffer_size": option.Store(option.Size, func(o *o) *int { return &o.bufferSize }),
		"open_tcp_nodelay": option.StoreGiven(option.Bool,
			func(o *o) **bool { return &o.noDelay }),

		"socks5_host": option.Store(option.Filled,
			func(o *o) *string { return &o.socks5.host }),
		"socks5_port": option.StoreGiven(option.Port,
			func(o *o) **int { return &o.socks5.port }),
		"socks5_username": option.Store(option.Text,
			func(o *o) *string { return &o.socks5.username }),
		"socks5_password": option.Store(option.Text,
			func(o *o) *string { return &o.socks5.password }),
		"http_proxy_host": option.Store(option.Filled,
			func(o *o) *string { return &o.httpProxy.host }),
		"http_proxy_port": option.StoreGiven(option.Port,
			func(o *o) **int { return &o.httpProxy.port }),
		"http_proxy_user": option.Store(option.Text,
			func(o *o) *string { return &o.httpProxy.user }),
		"http_proxy_username": option.Store(option.Text,
			func(o *o) *string { return &o.httpProxy.username }),
		"http_proxy_password": option.Store(option.Text,
			func(o *o) *string { return &o.httpProxy.password }),

		"open_ssl":               option.Missing[o](`connect to network "tls", or call EnableSSL`),
		"socket_connect_timeout": option.Missing[o]("an option of Co::set; say connect_timeout"),
		"socket_dns_timeout": option.Missing[o](
			"an option of Co::set; connect_timeout covers DNS too",
		),
		"socket_read_timeout":  option.Missing[o]("an option of Co::set; say read_timeout"),
		"socket_recv_timeout":  option.Missing[o]("an option of Co::set; say read_timeout"),
		"socket_send_timeout":  option.Missing[o]("an option of Co::set; say write_timeout"),
		"socket_timeout":       option.Missing[o]("an option of Co::set; say timeout"),
		"socket_write_timeout": option.Missing[o]("an option of Co::set; say write_timeout"),
		"tcp_user_timeout":     option.Missing[o]("an option of servers; use Socket().SetOption"),
	})
	return table
}

// config puts the configuration together.
func (o *clientOptions) config() (client.Config, error) {
	rule, err := o.framing.rule()
	if err != nil {
		return client.Config{}, err
	}
	c := client.Config{
		EOF:              rule.EOF,
		Length:           rule.Length,
		MaxPacket:        rule.Max,
		ConnectTimeout:   cmp.Or(o.connectTimeout, o.timeout),
		ReadTimeout:      cmp.Or(o.readTimeout, o.timeout),
		WriteTimeout:     cmp.Or(o.writeTimeout, o.timeout),
		HandshakeTimeout: o.timeout,
		Nagle:            !option.Is(o.noDelay, true),
		ReceiveBuffer:    o.bufferSize,
		SendBuffer:       o.bufferSize,
	}
	if c.KeepAlive, err = o.keepAlive.config(); err != nil {
		return c, err
	}
	switch path := strings.ContainsAny(o.bindAddress, "/@"); {
	case o.bindAddress == "" && o.bindPort != nil:
		return c, optionError("bind_port", "needs bind_address")
	case path && o.bindPort != nil:
		return c, optionError("bind_port", "bind_address is the path of a Unix socket")
	case path:
		c.LocalAddress = o.bindAddress
	case o.bindAddress != "":
		c.LocalAddress = net.JoinHostPort(o.bindAddress, strconv.Itoa(or(o.bindPort, 0)))
	}
	c.Proxy, err = o.proxy()
	return c, err
}

// proxy returns the proxy that the options name, nil if none.
func (o *clientOptions) proxy() (*client.Proxy, error) {
	if o.socks5.host != "" && o.httpProxy.host != "" {
		return nil, optionError("http_proxy_host", "socks5_host names another proxy")
	}
	h := &o.httpProxy
	if h.user != "" && h.username != "" && h.user != h.username {
		return nil, optionError(
			"http_proxy_username",
			"is another name for http_proxy_user, and contradicts it",
		)
	}
	h.username = cmp.Or(h.username, h.user)
	if p := &o.socks5; p.username != "" && p.password == "" {
		return nil, optionError("socks5_password", "is missing for socks5_username")
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

func (p *proxyOptions) proxy(kind, prefix string) (*client.Proxy, error) {
	switch {
	case p.password != "" && p.username == "":
		return nil, optionError(prefix+"password", "needs a user name")
	case p.host == "" && p.port != nil:
		return nil, optionError(prefix+"port", "needs "+prefix+"host")
	case p.host == "" && p.username != "":
		return nil, optionError(prefix+"host", "is missing, but there is a user name")
	case p.host == "":
		return nil, nil
	case p.port == nil:
		return nil, optionError(prefix+"port", "is missing for "+prefix+"host")
	}
	return &client.Proxy{
		Type:     kind,
		Address:  net.JoinHostPort(p.host, strconv.Itoa(*p.port)),
		User:     p.username,
		Password: p.password,
	}, nil
}

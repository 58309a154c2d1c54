package swoole_test

import (
	"crypto/tls"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/swoole"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

type options = map[string]any

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestClientFromMap(t *testing.T) {
	type port uint16
	for name, tc := range map[string]struct {
		options options
		want    client.Config
	}{
		"nothing": {nil, client.Config{}},
		"null is absent": {
			options{"package_eof": nil, "timeout": nil, "open_mqtt_protocol": nil, "package_length_func": nil},
			client.Config{},
		},
		"eof check": {options{"open_eof_check": true, "package_eof": "\r\n"}, client.Config{EOF: "\r\n"}},
		"eof split": {options{"open_eof_split": 1, "package_eof": "\r\n\r\n"}, client.Config{EOF: "\r\n\r\n"}},
		"eof of more than Swoole's 8 bytes": {
			options{"open_eof_check": true, "package_eof": "--boundary--"}, client.Config{EOF: "--boundary--"},
		},
		"eof switched off": {options{"open_eof_check": false, "package_eof": "\r\n"}, client.Config{}},
		"length": {
			options{
				"open_length_check": true, "package_length_type": "v", "package_length_offset": 2, "package_body_offset": 4,
				"package_max_length": 1 << 10,
			},
			client.Config{Length: packet.LengthField{Type: 'v', Offset: 2, BodyOffset: 4}, MaxPacket: 1 << 10},
		},
		"length by default": {options{"open_length_check": true}, client.Config{Length: packet.LengthField{Type: 'N'}}},
		"length switched off": {
			options{"open_length_check": false, "package_length_type": "N", "package_length_offset": 4}, client.Config{},
		},
		"package_body_start": {
			options{"open_length_check": true, "package_body_start": 8},
			client.Config{Length: packet.LengthField{Type: 'N', BodyOffset: 8}},
		},
		"both names of package_body_offset": {
			options{"open_length_check": true, "package_body_start": 8, "package_body_offset": 8},
			client.Config{Length: packet.LengthField{Type: 'N', BodyOffset: 8}},
		},
		"length wins over eof": {
			options{"open_length_check": true, "open_eof_check": true, "package_eof": "\n"},
			client.Config{Length: packet.LengthField{Type: 'N'}},
		},
		"sizes": {
			options{"package_max_length": "2M", "socket_buffer_size": "512k"},
			client.Config{MaxPacket: 2 << 20, ReceiveBuffer: 512 << 10, SendBuffer: 512 << 10},
		},
		"sizes without a unit, with a B": {
			options{"package_max_length": "4096", "socket_buffer_size": "1MB"},
			client.Config{MaxPacket: 4096, ReceiveBuffer: 1 << 20, SendBuffer: 1 << 20},
		},
		"timeout for all": {
			options{"timeout": 1.5},
			client.Config{ConnectTimeout: 1500 * time.Millisecond, ReadTimeout: 1500 * time.Millisecond,
				WriteTimeout: 1500 * time.Millisecond, HandshakeTimeout: 1500 * time.Millisecond},
		},
		"timeouts of their own": {
			options{"timeout": 5, "connect_timeout": 0.5, "read_timeout": -1, "write_timeout": 0},
			client.Config{ConnectTimeout: time.Second / 2, ReadTimeout: -1, WriteTimeout: 5 * time.Second, HandshakeTimeout: 5 * time.Second},
		},
		"timeouts at the edges": {
			options{"timeout": 0.0, "connect_timeout": 1e-9, "read_timeout": math.Inf(1), "write_timeout": -1e-12},
			client.Config{ConnectTimeout: time.Millisecond, ReadTimeout: math.MaxInt64, WriteTimeout: -1},
		},
		"durations": {
			options{"connect_timeout": 3 * time.Second, "read_timeout": -time.Hour},
			client.Config{ConnectTimeout: 3 * time.Second, ReadTimeout: -1},
		},
		"local address":       {options{"bind_address": "192.0.2.1", "bind_port": 1024}, client.Config{LocalAddress: "192.0.2.1:1024"}},
		"local address alone": {options{"bind_address": "::1"}, client.Config{LocalAddress: "[::1]:0"}},
		"local address of the kernel's port": {
			options{"bind_address": "::1", "bind_port": 0}, client.Config{LocalAddress: "[::1]:0"},
		},
		"local path":  {options{"bind_address": "/run/client"}, client.Config{LocalAddress: "/run/client"}},
		"nodelay off": {options{"open_tcp_nodelay": false}, client.Config{Nagle: true}},
		"nodelay on":  {options{"open_tcp_nodelay": true}, client.Config{}},
		"keep-alive": {
			options{"open_tcp_keepalive": true, "tcp_keepidle": 60, "tcp_keepinterval": 5, "tcp_keepcount": 3},
			client.Config{KeepAlive: socket.KeepAlive{Idle: time.Minute, Interval: 5 * time.Second, Count: 3}},
		},
		"keep-alive off":    {options{"open_tcp_keepalive": false}, client.Config{KeepAlive: socket.KeepAlive{Idle: -1}}},
		"protocol off":      {options{"open_mqtt_protocol": false, "open_ssl": 0}, client.Config{}},
		"integers of types": {options{"open_length_check": uint8(1), "package_length_offset": int64(3)}, client.Config{Length: packet.LengthField{Type: 'N', Offset: 3}}},
		"integers from JSON": {
			options{"open_length_check": 1.0, "package_length_offset": 3.0},
			client.Config{Length: packet.LengthField{Type: 'N', Offset: 3}},
		},
		"socks5": {
			options{"socks5_host": "proxy.test", "socks5_port": port(1080)},
			client.Config{Proxy: &client.Proxy{Type: "socks5", Address: "proxy.test:1080"}},
		},
		"socks5 with a user": {
			options{"socks5_host": "2001:db8::1", "socks5_port": 1080, "socks5_username": "u", "socks5_password": "p"},
			client.Config{Proxy: &client.Proxy{Type: "socks5", Address: "[2001:db8::1]:1080", User: "u", Password: "p"}},
		},
		"http proxy": {
			options{"http_proxy_host": "proxy.test", "http_proxy_port": 3128, "http_proxy_user": "u", "http_proxy_password": "p"},
			client.Config{Proxy: &client.Proxy{Type: "http", Address: "proxy.test:3128", User: "u", Password: "p"}},
		},
		"http proxy with a token": {
			options{"http_proxy_host": "proxy.test", "http_proxy_port": 3128, "http_proxy_username": "token"},
			client.Config{Proxy: &client.Proxy{Type: "http", Address: "proxy.test:3128", User: "token"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := swoole.ClientFromMap(tc.options)
			check(t, err)
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

func TestClientFromMapLengthFunc(t *testing.T) {
	broken := errors.New("broken")
	for _, fn := range []any{
		func(header []byte) int { return int(header[0]) },
		func(header string) int { return int(header[0]) },
		func(header []byte) (int, error) { return int(header[0]), broken },
	} {
		config, err := swoole.ClientFromMap(options{"open_length_check": true, "package_length_func": fn, "package_length_type": "n"})
		check(t, err)
		size, err := config.Length.Func([]byte{7, 1, 2})
		_, fails := fn.(func([]byte) (int, error))
		if size != 7 || (err == broken) != fails || config.Length.Type != 0 {
			t.Errorf("%T: %d, %v, %+v", fn, size, err, config.Length)
		}
	}
}

func TestClientFromMapTLS(t *testing.T) {
	ca, err := devca.New("Whorl Test CA")
	check(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	check(t, os.WriteFile(file, ca.PEM(), 0o600))
	config, err := swoole.ClientFromMap(options{"ssl_cafile": file, "ssl_host_name": "mail.test", "ssl_protocols": 64, "timeout": 3})
	check(t, err)
	if c := config.TLS; c.ServerName != "mail.test" || c.MinVersion != tls.VersionTLS13 || !c.RootCAs.Equal(ca.Pool()) {
		t.Errorf("TLS is %+v", c)
	}
	if config.ReadTimeout != 3*time.Second {
		t.Errorf("other options are lost: %+v", config)
	}

	_, err = swoole.ClientFromMap(options{"ssl_cafile": filepath.Join(t.TempDir(), "none.pem")})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that isn't there: %v", err)
	}
	if _, ok := errors.AsType[*tlsconfig.OptionError](err); !ok || !strings.Contains(err.Error(), "ssl_cafile") {
		t.Errorf("error is %v", err)
	}
}

// Each error names the option and says what is wrong with it.
func TestClientFromMapErrors(t *testing.T) {
	eof := options{"open_eof_check": true}
	length := options{"open_length_check": true}
	socks := options{"socks5_host": "proxy.test", "socks5_port": 1080}
	for _, tc := range []struct {
		base, options options
		option, says  string
	}{
		{nil, options{"package_eol": "\n"}, "package_eol", "no such option"},
		{nil, options{"ssl_verify": true}, "ssl_verify", "no such option"},
		{nil, options{"ssl_dhparam": "x"}, "ssl_dhparam", "server"},
		{nil, options{"ssl_verify_peer": "yes"}, "ssl_verify_peer", "want a bool, got string"},

		{nil, options{"open_mqtt_protocol": true}, "open_mqtt_protocol", "can't be honoured"},
		{nil, options{"open_websocket_protocol": 1}, "open_websocket_protocol", "package websocket"},
		{nil, options{"open_ssl": true}, "open_ssl", "EnableSSL"},
		{nil, options{"socket_timeout": 3.5}, "socket_timeout", "say timeout"},

		{nil, options{"open_eof_check": "true"}, "open_eof_check", "want a bool, got string"},
		{nil, options{"open_eof_check": 2}, "open_eof_check", "want a bool, got int"},
		{eof, options{}, "package_eof", "empty"},
		{eof, options{"package_eof": ""}, "package_eof", "empty"},
		{nil, options{"open_eof_split": true}, "package_eof", "open_eof_split"},
		{eof, options{"package_eof": []byte("\n")}, "package_eof", "want a string, got []uint8"},
		{nil, options{"package_eof": "\n"}, "package_eof", "needs open_eof_check"},
		{eof, options{"package_eof": "\r\n", "package_max_length": 1}, "package_max_length", "2 bytes"},
		{eof, options{"open_length_check": true}, "package_eof", "empty"},

		{length, options{"package_length_type": "X"}, "package_length_type", "must be one of"},
		{length, options{"package_length_type": "NN"}, "package_length_type", "one letter"},
		{length, options{"package_length_type": 'N'}, "package_length_type", "want a string, got int32"},
		{length, options{"package_length_offset": -1}, "package_length_offset", "negative"},
		{length, options{"package_length_offset": "4"}, "package_length_offset", "want an integer, got string"},
		{length, options{"package_length_offset": 1.5}, "package_length_offset", "want an integer"},
		{length, options{"package_body_offset": uint64(math.MaxUint64)}, "package_body_offset", "want an integer"},
		{length, options{"package_body_offset": 4, "package_body_start": 8}, "package_body_start", "contradicts"},
		{length, options{"package_length_offset": 10, "package_max_length": 12}, "package_max_length", "beyond the limit"},
		{length, options{"package_length_func": func() int { return 1 }}, "package_length_func", "got func() int"},
		{length, options{"package_length_func": (func([]byte) int)(nil)}, "package_length_func", "nil"},
		{nil, options{"package_length_type": "N"}, "package_length_type", "needs open_length_check"},
		{nil, options{"package_body_offset": 4}, "package_body_offset", "needs open_length_check"},

		{nil, options{"package_max_length": 0}, "package_max_length", "1 byte"},
		{nil, options{"package_max_length": -5}, "package_max_length", "1 byte"},
		{nil, options{"package_max_length": "2X"}, "package_max_length", "2M"},
		{nil, options{"package_max_length": "M"}, "package_max_length", "2M"},
		{nil, options{"package_max_length": "4G"}, "package_max_length", "2 GiB"},
		{nil, options{"package_max_length": true}, "package_max_length", "got bool"},
		{nil, options{"socket_buffer_size": 0}, "socket_buffer_size", "1 byte"},

		{nil, options{"timeout": "5"}, "timeout", "want a number of seconds, got string"},
		{nil, options{"read_timeout": math.NaN()}, "read_timeout", "NaN"},

		{nil, options{"tcp_keepidle": 60}, "tcp_keepidle", "needs open_tcp_keepalive"},
		{nil, options{"open_tcp_keepalive": true, "tcp_keepcount": 128}, "tcp_keepcount", "1 to 127"},
		{nil, options{"open_tcp_keepalive": true, "tcp_keepinterval": 0.5}, "tcp_keepinterval", "want an integer"},

		{nil, options{"bind_port": 80}, "bind_port", "needs bind_address"},
		{nil, options{"bind_address": "localhost"}, "bind_address", "want an IP address"},
		{nil, options{"bind_address": ""}, "bind_address", "empty"},
		{nil, options{"bind_address": "/run/x", "bind_port": 80}, "bind_port", "Unix socket"},
		{nil, options{"bind_address": "::1", "bind_port": 65536}, "bind_port", "1 to 65535"},

		{nil, options{"socks5_host": "proxy.test"}, "socks5_port", "missing"},
		{nil, options{"socks5_port": 1080}, "socks5_port", "needs socks5_host"},
		{nil, options{"socks5_host": "", "socks5_port": 1080}, "socks5_host", "empty"},
		{nil, options{"socks5_host": "proxy.test", "socks5_port": 0}, "socks5_port", "1 to 65535"},
		{nil, options{"socks5_host": "proxy.test", "socks5_port": "1080"}, "socks5_port", "want an integer"},
		{socks, options{"socks5_password": "p"}, "socks5_password", "needs a user"},
		{socks, options{"socks5_username": "u"}, "socks5_password", "missing"},
		{socks, options{"http_proxy_host": "x", "http_proxy_port": 1}, "http_proxy_host", "another proxy"},
		{nil, options{"http_proxy_user": "u"}, "http_proxy_host", "missing"},
		{nil, options{"http_proxy_user": "u", "http_proxy_username": "v"}, "http_proxy_username", "contradicts"},
	} {
		all := options{}
		for _, of := range []options{tc.base, tc.options} {
			for name, value := range of {
				all[name] = value
			}
		}
		config, err := swoole.ClientFromMap(all)
		if err == nil || !strings.Contains(err.Error(), tc.option+":") || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v: error is %v, want one about %s that says %q", all, err, tc.option, tc.says)
		}
		if !reflect.DeepEqual(config, client.Config{}) {
			t.Errorf("%v: there is a configuration beside the error: %+v", all, config)
		}
	}
}

// A password doesn't get into an error.
func TestClientFromMapErrorsKeepSecrets(t *testing.T) {
	for _, all := range []options{
		{"socks5_password": []string{"secret"}},
		{"socks5_password": "secret"},
		{"http_proxy_host": "proxy.test", "http_proxy_password": "secret"},
	} {
		if _, err := swoole.ClientFromMap(all); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("error is %v", err)
		}
	}
}

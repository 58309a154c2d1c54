package swoole_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/swoole"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func TestServerFromMap(t *testing.T) {
	port := func(p server.Port) server.Config { return server.Config{Port: p} }
	for name, tc := range map[string]struct {
		options options
		want    server.Config
	}{
		"nothing":            {nil, server.Config{}},
		"null is absent":     {options{"worker_num": nil, "max_conn": nil, "open_http_protocol": nil}, server.Config{}},
		"eof by default":     {options{"open_eof_check": true}, port(server.Port{EOF: "\r\n\r\n"})},
		"eof":                {options{"open_eof_split": true, "package_eof": "\n"}, port(server.Port{EOF: "\n"})},
		"length by default":  {options{"open_length_check": true}, port(server.Port{Length: packet.LengthField{Type: 'N', BodyOffset: 4}})},
		"length as it is":    {options{"open_length_check": true, "package_body_offset": 0}, port(server.Port{Length: packet.LengthField{Type: 'N'}})},
		"limit":              {options{"package_max_length": "64K"}, port(server.Port{MaxPacket: 64 << 10})},
		"connections":        {options{"max_connection": 1000}, server.Config{MaxConnections: 1000}},
		"connections, short": {options{"max_conn": 1000, "max_connection": 1000}, server.Config{MaxConnections: 1000}},
		"idle":               {options{"heartbeat_idle_time": 600, "heartbeat_check_interval": 60}, port(server.Port{IdleTimeout: 10 * time.Minute})},
		"idle by interval":   {options{"heartbeat_check_interval": 60}, port(server.Port{IdleTimeout: 2 * time.Minute})},
		"idle exactly":       {options{"max_idle_time": 1.5}, port(server.Port{IdleTimeout: 1500 * time.Millisecond})},
		"queue": {
			options{"socket_buffer_size": "8M", "buffer_high_watermark": "4M", "buffer_low_watermark": 4096, "send_timeout": 3},
			port(server.Port{MaxQueue: 8 << 20, HighWater: 4 << 20, LowWater: 4096, WriteTimeout: 3 * time.Second}),
		},
		"socket": {
			options{"kernel_socket_recv_buffer_size": 8192, "kernel_socket_send_buffer_size": 4096, "open_tcp_nodelay": false, "backlog": 128,
				"enable_reuse_port": true},
			port(server.Port{ReceiveBuffer: 8192, SendBuffer: 4096, Nagle: true, Backlog: 128, ReusePort: true}),
		},
		"keep-alive": {options{"open_tcp_keepalive": 1, "tcp_keepidle": 60}, port(server.Port{KeepAlive: socket.KeepAlive{Idle: time.Minute}})},
		"what is off anyway": {
			options{"daemonize": 0, "open_http_protocol": false, "task_enable_coroutine": false, "worker_num": 0, "send_yield": true},
			server.Config{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := swoole.ServerFromMap(tc.options)
			check(t, err)
			if got.KeepAlive.Idle == -1 && tc.want.KeepAlive.Idle == 0 {
				t.Error("keep-alive is off")
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

func TestServerFromMapTLS(t *testing.T) {
	cert, err := devca.SelfSigned(devca.Request{Names: []string{"mail.test"}})
	check(t, err)
	certFile, keyFile := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	check(t, devca.WritePEM(cert, certFile, keyFile))
	config, err := swoole.ServerFromMap(options{"ssl_cert_file": certFile, "ssl_key_file": keyFile, "backlog": 7})
	check(t, err)
	if config.Certificates == nil || !config.Certificates.Certificates()[0].Equal(cert.Leaf) || config.Backlog != 7 {
		t.Errorf("%+v", config)
	}
	if _, err := swoole.ServerFromMap(options{"ssl_cert_file": certFile + ".none", "ssl_key_file": keyFile}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that isn't there: %v", err)
	}
	_, err = swoole.ServerFromMap(options{"ssl_cert_file": certFile})
	if e, ok := errors.AsType[*tlsconfig.OptionError](err); !ok || e.Option != "ssl_cert_file" {
		t.Errorf("without a key: %v", err)
	}
}

func TestServerFromMapErrors(t *testing.T) {
	for _, tc := range []struct {
		options      options
		option, says string
	}{
		{options{"workers": 4}, "workers", "no such option"},
		{options{"worker_num": 4}, "worker_num", "runtime.WithLoops"},
		{options{"reactor_num": 2}, "reactor_num", "runtime.WithLoops"},
		{options{"dispatch_mode": 2}, "dispatch_mode", "runtime.WithLoops"},
		{options{"task_worker_num": 8}, "task_worker_num", "runtime.Await"},
		{options{"max_request": 1000}, "max_request", "no worker processes"},
		{options{"enable_coroutine": true}, "enable_coroutine", "Port.Handle"},
		{options{"daemonize": true}, "daemonize", "systemd"},
		{options{"log_file": "/var/log/x"}, "log_file", "Config.Logger"},
		{options{"open_websocket_protocol": true}, "open_websocket_protocol", "package websocket"},
		{options{"open_websocket_close_frame": true}, "open_websocket_close_frame", "OnClose"},
		{options{"open_websocket_ping_frame": true}, "open_websocket_ping_frame", "OnPing"},
		{options{"websocket_subprotocol": "chat"}, "websocket_subprotocol", "Subprotocols"},
		{options{"websocket_compression": true}, "websocket_compression", "Compression"},
		{options{"document_root": "/srv"}, "document_root", "net/http"},
		{options{"open_http2_protocol": true}, "open_http2_protocol", "net/http"},
		{options{"tcp_defer_accept": 5}, "tcp_defer_accept", "ListenFile"},
		{options{"send_yield": false}, "send_yield", "always"},
		{options{"max_conn": 1, "max_connection": 2}, "max_conn", "contradicts"},
		{options{"max_conn": 0}, "max_conn", "1 or more"},
		{options{"backlog": -1}, "backlog", "1 or more"},
		{options{"max_idle_time": 1, "heartbeat_idle_time": 2}, "max_idle_time", "contradicts"},
		{options{"heartbeat_idle_time": 5, "heartbeat_check_interval": 60}, "heartbeat_check_interval", "longer"},
		{options{"package_eof": "\n"}, "package_eof", "needs open_eof_check"},
		{options{"package_length_type": "N"}, "package_length_type", "needs open_length_check"},
		{options{"tcp_keepidle": 60}, "tcp_keepidle", "needs open_tcp_keepalive"},
		{options{"ssl_host_name": "a.test"}, "ssl_host_name", "client option"},
		{options{"ssl_key": "x"}, "ssl_key", "no such option"},
	} {
		config, err := swoole.ServerFromMap(tc.options)
		if e, ok := errors.AsType[*tlsconfig.OptionError](err); !ok || e.Option != tc.option || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v: error is %v, want one about %s that says %q", tc.options, err, tc.option, tc.says)
		}
		if !reflect.DeepEqual(config, server.Config{}) {
			t.Errorf("%v: there is a configuration beside the error: %+v", tc.options, config)
		}
	}
}

// Who ports a server is told at once of all that its array has and there isn't.
func TestAllWrongOptionsAreTold(t *testing.T) {
	_, err := swoole.ServerFromMap(options{"worker_num": 4, "enable_coroutine": true, "log_level": 1,
		"max_conn": 100, "workers": 1, "ssl_dhparam": "x", "ssl_none": 1})
	for _, says := range []string{
		"worker_num: can't", "enable_coroutine: can't", "log_level: can't", "workers: no such option",
		"ssl_dhparam: can't", "ssl_none: no such option",
	} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %s", err, says)
		}
	}
	if strings.Contains(err.Error(), "max_conn") {
		t.Error(err)
	}
	_, err = swoole.ClientFromMap(options{"nope": 1, "ssl_none": 1})
	if err == nil || err.Error() != "option nope: no such option; option ssl_none: no such option" {
		t.Error(err)
	}
}

// A map of options can be anything that a file may have in it.
func FuzzOptions(f *testing.F) {
	for _, seed := range []string{
		`{"worker_num": 4, "open_eof_check": true, "package_eof": "\r\n"}`,
		`{"open_length_check": 1, "package_length_type": "n", "package_body_offset": 1e9, "package_max_length": "2M"}`,
		`{"heartbeat_check_interval": 1e300, "tcp_keepidle": -1, "open_tcp_keepalive": true}`,
		`{"socks5_host": "proxy.test", "socks5_port": 1080, "timeout": 0.5, "bind_address": "::1"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var o map[string]any
		if json.Unmarshal(data, &o) != nil {
			return
		}
		for name := range o {
			if strings.HasPrefix(name, "ssl_") {
				return // would read files
			}
		}
		config, err := swoole.ServerFromMap(o)
		if err == nil && (config.IdleTimeout < -1 || config.MaxConnections < 0) {
			t.Errorf("%+v", config)
		}
		_, clientErr := swoole.ClientFromMap(o)
		for _, err := range []error{err, clientErr} {
			if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q is not one harmless line", err)
			}
		}
	})
}

package swoole_test

import (
	"context"
	"fmt"

	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/swoole"
)

// The configuration in Swoole's words.
func ExampleClientFromMap() {
	config, err := swoole.ClientFromMap(map[string]any{
		"open_length_check":     true,
		"package_length_type":   "N",
		"package_length_offset": 0,
		"package_body_offset":   4,
		"package_max_length":    "2M",
		"connect_timeout":       0.5,
		"ssl_host_name":         "mail.example.com",
	})
	fmt.Printf("%c +%d, at most %d bytes, %v to connect, TLS for %s, %v\n", config.Length.Type, config.Length.BodyOffset,
		config.MaxPacket, config.ConnectTimeout, config.TLS.ServerName, err)

	_, err = swoole.ClientFromMap(map[string]any{"open_eof_check": true})
	fmt.Println(err)
	// Output:
	// N +4, at most 2097152 bytes, 500ms to connect, TLS for mail.example.com, <nil>
	// option package_eof: is empty, but open_eof_check or open_eof_split is on
}

// A service of Swoole's: what its $server->set says, and the callbacks of its $server->on.
func ExampleServerFromMap() {
	config, err := swoole.ServerFromMap(map[string]any{
		"open_eof_split":      true,
		"package_eof":         "\r\n",
		"heartbeat_idle_time": 600,
		"max_connection":      100_000,
		"open_tcp_keepalive":  true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	config.OnReceive = func(ctx context.Context, c *server.Conn, pkt []byte) { c.Send(ctx, pkt) }
	fmt.Printf("%q, idle for %v, %d connections\n", config.EOF, config.IdleTimeout, config.MaxConnections)

	_, err = swoole.ServerFromMap(map[string]any{"worker_num": 4})
	fmt.Println(err)
	// Output:
	// "\r\n", idle for 10m0s, 100000 connections
	// option worker_num: can't be honoured: there are no worker processes: event loops share the connections, say how many by runtime.WithLoops
}

package swoole

import (
	"fmt"
	"maps"
	"math"
	"strings"
	"time"

	"github.com/whorl-go/whorl/internal/option"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/dialect"
)

// ServerFromMap returns the Config that the options of a server ask for: of $server->set, or of a
// port's set, whose Config has the Port. Its callbacks are for the program to fill in. It reads the
// files that ssl_* options name, so it may block.
//
//	open_eof_check, open_eof_split   packets end with package_eof, each comes alone
//	package_eof ("\r\n\r\n")
//	open_length_check, package_length_type ("N"), package_length_offset (0)
//	package_body_offset (4), package_length_func, package_max_length (2M)
//	max_connection, max_conn         Config.MaxConnections
//	heartbeat_idle_time              Port.IdleTimeout; also named max_idle_time
//	heartbeat_check_interval         half of the idle time where that isn't given; else only taken
//	send_timeout                     Port.WriteTimeout
//	socket_buffer_size (2M)          Port.MaxQueue: bytes, or a size
//	buffer_high_watermark, buffer_low_watermark
//	kernel_socket_recv_buffer_size, kernel_socket_send_buffer_size
//	open_tcp_nodelay (true), backlog, enable_reuse_port (false)
//	open_tcp_keepalive (true)        Port.KeepAlive, with its defaults
//	tcp_keepidle, tcp_keepinterval, tcp_keepcount
//	ssl_…                            Port.Certificates, see dialect.SwooleServer
//
// What has no counterpart is an error that says what to do instead, all of them in one error: so
// the array of a real server doesn't pass as it is. A server has no processes: worker_num,
// reactor_num, dispatch_mode and what else is about them become runtime.WithLoops, and task workers
// runtime.Await. Who runs it, and where it writes, is for systemd and the logger: daemonize, user,
// log_file.
func ServerFromMap(options map[string]any) (server.Config, error) {
	ssl, others := sslOptions(options)
	o := &serverOptions{framing: framing{defaultEOF: "\r\n\r\n", defaultBodyOffset: 4}}
	var config server.Config
	err := serverTable.Set(o, others, ofOption)
	if err == nil {
		config, err = o.config()
	}
	var wrong error
	if len(ssl) > 0 {
		config.Certificates, wrong = certificates(ssl)
	}
	if err := (option.Mistakes{err, wrong}).Err(); err != nil {
		return server.Config{}, err
	}
	return config, nil
}

// certificates reads what the options of TLS name.
func certificates(ssl map[string]any) (*tlsconfig.Server, error) {
	o, err := dialect.SwooleServer(ssl)
	if err != nil {
		return nil, err
	}
	return tlsconfig.NewServer(o)
}

// serverOptions is what the options of one map ask for. nil and 0 are: not given.
type serverOptions struct {
	framing   framing
	keepAlive keepAlive

	maxConnection, maxConn             int
	idleTime, maxIdleTime, checkEvery  time.Duration
	sendTimeout                        time.Duration
	queue, highWater, lowWater         int
	receiveBuffer, sendBuffer, backlog int
	noDelay, reusePort                 *bool
}

var serverTable = newServerTable()

func newServerTable() option.Table[serverOptions] {
	type o = serverOptions
	table := framingTable(func(o *o) *framing { return &o.framing })
	maps.Copy(table, keepAliveTable(func(o *o) *keepAlive { return &o.keepAlive }))
	maps.Copy(table, option.Table[o]{
		"max_connection": option.Store(positive, func(o *o) *int { return &o.maxConnection }),
		"max_conn":       option.Store(positive, func(o *o) *int { return &o.maxConn }),
		"backlog":        option.Store(positive, func(o *o) *int { return &o.backlog }),

		"heartbeat_idle_time": option.Store(option.Seconds,
			func(o *o) *time.Duration { return &o.idleTime }),
		"max_idle_time": option.Store(option.Seconds,
			func(o *o) *time.Duration { return &o.maxIdleTime }),
		"heartbeat_check_interval": option.Store(option.Seconds,
			func(o *o) *time.Duration { return &o.checkEvery }),
		"send_timeout": option.Store(option.Seconds,
			func(o *o) *time.Duration { return &o.sendTimeout }),

		"socket_buffer_size": option.Store(option.Size,
			func(o *o) *int { return &o.queue }),
		"buffer_high_watermark": option.Store(option.Size,
			func(o *o) *int { return &o.highWater }),
		"buffer_low_watermark": option.Store(option.Size,
			func(o *o) *int { return &o.lowWater }),
		"kernel_socket_recv_buffer_size": option.Store(option.Size,
			func(o *o) *int { return &o.receiveBuffer }),
		"kernel_socket_send_buffer_size": option.Store(option.Size,
			func(o *o) *int { return &o.sendBuffer }),

		"open_tcp_nodelay": option.StoreGiven(option.Bool,
			func(o *o) **bool { return &o.noDelay }),
		"enable_reuse_port": option.StoreGiven(option.Bool,
			func(o *o) **bool { return &o.reusePort }),
		"send_yield": option.RefuseIf[o](false, "Send of a handler waits for room, always"),
	})
	for _, missing := range withoutCounterpart {
		for name := range strings.FieldsSeq(missing.names) {
			table[name] = option.Missing[o](missing.why)
		}
	}
	return table
}

// withoutCounterpart has the options of a server that can't be had, and what to do instead.
var withoutCounterpart = []struct{ names, why string }{
	{
		"worker_num reactor_num single_thread dispatch_mode dispatch_func " +
			"enable_unsafe_event event_object discard_timeout_request",
		"there are no worker processes: event loops share the connections, say how many " +
			"by runtime.WithLoops",
	},
	{
		"max_request max_request_grace reload_async",
		"there are no worker processes that would have to be replaced",
	},
	{
		"max_wait_time",
		"say it by the context of Server.Shutdown",
	},
	{
		"task_worker_num task_ipc_mode task_max_request task_max_request_grace task_tmpdir " +
			"task_enable_coroutine task_use_object task_object message_queue_key",
		"blocking work is for runtime.Await, at most runtime.WithAwaitLimit at a time",
	},
	{
		"enable_coroutine",
		"callbacks run on their loop and must not wait; Port.Handle gives each " +
			"connection a coroutine",
	},
	{
		"max_coroutine max_coro_num",
		"say runtime.WithMaxCoroutines",
	},
	{
		"max_concurrency worker_max_concurrency",
		"a limit on requests under way is the program's: count in its handlers",
	},
	{
		"enable_delay_receive max_queued_bytes",
		"a handler reads when it calls Recv; with OnReceive there is Conn.Pause",
	},
	{
		"input_buffer_size buffer_input_size",
		"packets go from the socket to the handler: say package_max_length",
	},
	{
		"output_buffer_size buffer_output_size",
		"one Send may be as large as the queue: say socket_buffer_size",
	},
	{
		"start_session_id",
		"IDs of connections are the server's",
	},
	{
		"daemonize pid_file user group chroot",
		"it is for whoever starts the program: a service of systemd, for one",
	},
	{
		"log_file log_level log_date_format log_date_with_microseconds log_rotation",
		"give Config.Logger, or the runtime's by runtime.WithLogger",
	},
	{
		"stats_file",
		"see package metrics and Server.Stats",
	},
	{
		"tcp_defer_accept tcp_fastopen tcp_user_timeout",
		"make it on a socket of your own and serve that with Server.ListenFile",
	},
	{
		"wait_signal enable_signalfd",
		"the runtime catches signals by runtime.WaitSignal",
	},
	{
		"open_websocket_close_frame",
		"websocket.Options.OnClose has code and reason",
	},
	{
		"open_websocket_ping_frame open_websocket_pong_frame",
		"websocket.Options has OnPing and OnPong",
	},
	{
		"websocket_compression websocket_subprotocol",
		"websocket.Options has Compression and Subprotocols",
	},
	{
		"document_root enable_static_handler static_handler_locations http_autoindex " +
			"http_index_files http_compression http_compression_level http_gzip_level " +
			"http_parse_post http_parse_cookie http_parse_files upload_tmp_dir",
		"HTTP is net/http's, over package hooks or as OnRequest of package websocket",
	},
	{
		"open_cpu_affinity cpu_affinity_ignore",
		"the kernel chooses",
	},
}

// config puts the configuration together.
func (o *serverOptions) config() (server.Config, error) {
	var c server.Config
	rule, err := o.framing.rule()
	if err != nil {
		return c, err
	}
	if c.KeepAlive, err = o.keepAlive.config(); err != nil {
		return c, err
	}
	switch {
	case o.maxConn != 0 && o.maxConnection != 0 && o.maxConn != o.maxConnection:
		return c, optionError("max_conn", "is another name for max_connection, and contradicts it")
	case o.maxIdleTime != 0 && o.idleTime != 0 && o.maxIdleTime != o.idleTime:
		return c, optionError("max_idle_time", "is heartbeat_idle_time, and contradicts it")
	case o.checkEvery > 0 && o.idleTime > 0 && o.idleTime < o.checkEvery:
		return c, optionError("heartbeat_check_interval", "is longer than heartbeat_idle_time")
	}
	c.MaxConnections = max(o.maxConn, o.maxConnection)
	c.EOF, c.Length, c.MaxPacket = rule.EOF, rule.Length, rule.Max
	switch {
	case o.idleTime != 0:
		c.IdleTimeout = o.idleTime
	case o.maxIdleTime != 0:
		c.IdleTimeout = o.maxIdleTime
	default:
		c.IdleTimeout = 2 * max(0, min(o.checkEvery, math.MaxInt64/2))
	}
	c.WriteTimeout = o.sendTimeout
	c.MaxQueue, c.HighWater, c.LowWater = o.queue, o.highWater, o.lowWater
	c.ReceiveBuffer, c.SendBuffer = o.receiveBuffer, o.sendBuffer
	c.Nagle, c.ReusePort = !option.Is(o.noDelay, true), option.Is(o.reusePort, false)
	c.Backlog = o.backlog
	return c, nil
}

// positive takes a number of things.
func positive(value any) (int, error) {
	n, err := option.Int(value)
	if err == nil && n < 1 {
		err = fmt.Errorf("want 1 or more, got %d", n)
	}
	return n, err
}

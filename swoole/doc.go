// Package swoole takes options under Swoole's names, for code that is ported: those of a client's
// set() make a client.Config ([ClientFromMap]), those of a server's or a port's set() a
// server.Config ([ServerFromMap]).
//
//	config, err := swoole.ServerFromMap(map[string]any{
//		"open_eof_split":      true,
//		"package_eof":         "\r\n",
//		"heartbeat_idle_time": 600,
//	})
//	if err != nil {
//		return err // which option, and why
//	}
//	config.OnReceive = func(ctx context.Context, c *server.Conn, line []byte) { c.Send(ctx, line) }
//	s := server.New(config)
//
// An option that is absent or nil (PHP's null) is at its default. Times are in seconds, integer or
// float, with one millisecond as the least, or a time.Duration; 0 is the default, negative is none.
// Integers may be of any integer type, or a float64 without a fraction, as encoding/json decodes
// them; booleans may be the integers 0 and 1; sizes may be strings such as "512K" or "2M".
//
// Nothing is dropped in silence. An unknown name is an error, and so are options that have no
// counterpart, options whose switch is missing (package_eof without open_eof_check; with
// open_eof_check set to false it is all right) and those that contradict each other. To switch off
// what there is no counterpart of is no error: it asks for nothing. Errors are
// *tlsconfig.OptionError, which names the option and never prints its value.
//
// The contexts of PHP's streams are taken by package hooks/stream, see its ContextCreate.
package swoole

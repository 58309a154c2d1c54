// Package stream is PHP's stream functions, for code that is ported: SocketClient is
// stream_socket_client, Select is stream_select, Stream.EnableCrypto is
// stream_socket_enable_crypto, and so on.
//
//	fp, err := stream.SocketClient(ctx, "tcp://mail.example.com:587")
//	if err != nil {
//		return err
//	}
//	defer fp.Close()
//	greeting, err := fp.Gets(ctx, 512)
//	fp.Write(ctx, []byte("STARTTLS\r\n"))
//	answer, err := fp.Gets(ctx, 512)
//	_, err = fp.EnableCrypto(ctx, true, stream.CryptoTLSClient)
//
// Every call takes a context and works from coroutines and from plain goroutines alike. A stream
// lives on the loops of the runtime that the context or the caller belongs to, else of the only one
// that runs, else of hooks.Default.
//
// Options have PHP's names, see ContextCreate and docs/options.md.
package stream

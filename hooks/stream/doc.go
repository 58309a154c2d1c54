// Package stream is PHP's stream functions, for code that is ported: SocketClient is
// stream_socket_client, Select is stream_select, Stream.EnableCrypto is
// stream_socket_enable_crypto, and so on.
//
//	client, err := stream.SocketClient(ctx, "tcp://mail.example.com:587")
//	greeting, err := client.Gets(ctx, 512)
//	…
//	_, err = client.EnableCrypto(ctx, true, stream.CryptoTLSClient) // STARTTLS
//
// Every call takes a context and works from coroutines and from plain goroutines alike. A stream
// lives on the loops of the runtime that the context or the caller belongs to, else of the only one
// that runs, else of hooks.Default.
//
// Options have PHP's names, see ContextCreate and docs/options.md.
package stream

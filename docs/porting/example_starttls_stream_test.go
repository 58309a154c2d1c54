//go:build linux

package porting_test

import (
	"context"
	"fmt"

	"github.com/whorl-go/whorl/hooks/stream"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

func Example_starttlsStream() {
	server := startMailServer()
	defer server.stop()
	err := runtime.Run(func(ctx context.Context) error {
		cases := []struct {
			title   string
			options map[string]any
		}{
			{"no context at all", nil},
			{"CA and right name", map[string]any{
				"cafile": server.caFile, "peer_name": "mail.example.test",
			}},
			{"CA and wrong name", map[string]any{
				"cafile": server.caFile, "peer_name": "other.example.test",
			}},
		}
		for _, c := range cases {
			fmt.Println("==", c.title)
			if err := starttlsStream(ctx, "tcp://"+server.address, c.options); err != nil {
				return err
			}
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// == no context at all
	// 220 2.0.0 Ready to start TLS
	// EnableCrypto: false code=1014
	// NOOP: code=1014
	// == CA and right name
	// 220 2.0.0 Ready to start TLS
	// EnableCrypto: true code=0
	// protocol: TLSv1.3
	// again: false code=106
	// NOOP: 250 2.0.0 Ok
	// == CA and wrong name
	// 220 2.0.0 Ready to start TLS
	// EnableCrypto: false code=1014
	// NOOP: code=1014
	// <nil>
}

func starttlsStream(ctx context.Context, url string, ssl map[string]any) error {
	options, err := stream.ContextCreate(map[string]map[string]any{"ssl": ssl})
	if err != nil {
		return err
	}
	fp, err := stream.SocketClient(ctx, url, stream.WithContext(options))
	if err != nil {
		return err
	}
	defer fp.Close()
	talk := func(command string) (string, error) {
		if _, err := fp.Write(ctx, []byte(command+"\r\n")); err != nil {
			return "", err
		}
		return fp.GetLine(ctx, 512, "\r\n")
	}
	if _, err := fp.GetLine(ctx, 512, "\r\n"); err != nil { // the greeting
		return err
	}
	line, err := talk("STARTTLS")
	if err != nil {
		return err
	}
	fmt.Println(line)

	done, err := fp.EnableCrypto(ctx, true, stream.CryptoTLSClient)
	fmt.Printf("EnableCrypto: %t code=%d\n", done, socket.Code(err))
	if done {
		fmt.Println("protocol:", fp.GetMetaData().Crypto.Protocol)
		done, err = fp.EnableCrypto(ctx, true, stream.CryptoTLSClient)
		fmt.Printf("again: %t code=%d\n", done, socket.Code(err))
	}
	if line, err = talk("NOOP"); err != nil {
		fmt.Printf("NOOP: code=%d\n", socket.Code(err))
		return nil
	}
	fmt.Println("NOOP:", line)
	return nil
}

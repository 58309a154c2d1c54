//go:build linux

package client_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

const (
	bücher  = "bücher.example"
	bücherA = "xn--bcher-kva.example" // the same in A-labels
)

// names is a resolver for which all names stand for one address.
type names struct {
	mu    sync.Mutex
	ip    string   // guarded by mu
	asked []string // guarded by mu
}

func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, host)
	if n.ip == "" {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []netip.Addr{netip.MustParseAddr(n.ip)}, nil
}

func (n *names) set(ip string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ip = ip
}

func (n *names) want(t testing.TB, asked ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if fmt.Sprint(n.asked) != fmt.Sprint(asked) {
		t.Errorf("asked for %v, want %v", n.asked, asked)
	}
}

// at returns an address with the port of another one.
func at(host, address string) string {
	_, port, _ := net.SplitHostPort(address)
	return host + ":" + port
}

// A resolver of one's own is asked, and asked again when what it has said leads nowhere.
func TestResolver(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := at("mail.test", serve(t, func(s *script) {
			s.hasty = true
			s.say("welcome")
			s.rest()
		}))
		resolver := &names{ip: "127.0.0.2"} // nobody listens there
		d, err := client.NewDialer(client.Config{Resolver: resolver})
		check(t, err)
		if _, err := d.Dial(ctx, "tcp", address); err == nil {
			t.Fatal("connected")
		}
		resolver.set("127.0.0.1")
		for range 2 {
			c, err := d.Dial(ctx, "tcp", address)
			check(t, err)
			recv(ctx, t, c, "welcome")
			check(t, c.Close())
		}
		resolver.want(t, "mail.test", "mail.test")

		config, r := recording(t, client.Config{Resolver: resolver})
		a := r.open(ctx, config, "tcp", address)
		check(t, a.Close())
		r.until(ctx, "close")
		resolver.want(t, "mail.test", "mail.test")
	})
}

// International names are A-labels for DNS, SNI and certificates, and stay as they are for the
// user.
func TestInternationalNames(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		var sni atomic.Value
		serverConfig := issue(t, devca.Request{Names: []string{bücherA}})
		serverConfig.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			sni.Store(hello.ServerName)
			return nil, nil
		}
		address := serve(t, func(s *script) {
			s.hasty = true
			s.starttls()
			s.secure(serverConfig)
			s.echoLines()
		})
		resolver := &names{ip: "127.0.0.1"}
		config := mail()
		config.Resolver = resolver
		for _, host := range []string{bücher, "BÜCHER.example"} {
			c := upgradable(ctx, t, config, at(host, address))
			check(t, c.EnableSSL(ctx))
			if sni.Load() != bücherA {
				t.Errorf("SNI is %v", sni.Load())
			}
			check(t, c.Close())
		}
		resolver.want(t, bücherA, bücherA)

		c := upgradable(ctx, t, config, at("büro.example", address)) // the certificate isn't for it
		err := c.EnableSSL(ctx)
		if socket.Code(err) != 1014 || !strings.Contains(err.Error(), "büro.example") {
			t.Errorf("error is %v, code %d", err, socket.Code(err))
		}

		named := config
		named.TLS = trusting()
		named.TLS.ServerName = bücher
		c = upgradable(ctx, t, named, address)
		check(t, c.EnableSSL(ctx))
		check(t, c.Close())

		resolver.set("")
		err = client.New(config).Connect(ctx, "tcp", "nosuch-ü.example:25")
		text := fmt.Sprint(err)
		if socket.Code(err) != 711 || strings.Contains(text, "xn--") ||
			strings.Count(text, "nosuch-ü.example") != 2 {
			t.Errorf("error is %v", err)
		}
	})
}

func TestBadNames(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		resolver := new(names)
		config, _ := recording(t, client.Config{Resolver: resolver})
		for _, address := range []string{"bü cher.example:25", "-ü.example:25", "ü..example:25"} {
			host, _, _ := net.SplitHostPort(address)
			for _, err := range []error{
				client.New(config.Config).Connect(ctx, "tls", address),
				client.NewAsync(config).Connect(ctx, "tcp", address),
			} {
				if socket.Code(err) != 713 || !strings.Contains(fmt.Sprint(err), host) {
					t.Errorf("error is %v, code %d", err, socket.Code(err))
				}
			}
		}
		resolver.want(t)
		wrong := client.Config{TLS: &tls.Config{ServerName: "ü ."}}
		err := client.New(wrong).Connect(ctx, "tcp", "127.0.0.1:1")
		if socket.Code(err) != 713 || !strings.Contains(fmt.Sprint(err), "ServerName") {
			t.Errorf("error is %v", err)
		}
		// A path is not a name.
		err = client.New(client.Config{}).Connect(ctx, "unix", t.TempDir()+"/bü cher")
		if socket.Code(err) != 2 {
			t.Errorf("error is %v, code %d", err, socket.Code(err))
		}
	})
}

// A proxy is asked for A-labels, and may have an international name itself.
func TestInternationalNamesThroughProxies(t *testing.T) {
	authority := bücherA + ":587"
	for kind, dialog := range map[string][]string{
		"http":   {"CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority + "\r\n\r\n", established},
		"socks5": {"\x05\x01\x00", "\x05\x00", "\x05\x01\x00\x03\x15" + bücherA + "\x02\x4b", opened},
	} {
		t.Run(kind, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					s.tunnel(dialog, "")
					s.secure(issue(t, devca.Request{Names: []string{bücherA}}))
					s.say("220 secure\r\n")
					s.rest()
				})
				resolver := &names{ip: "127.0.0.1"}
				config := mail()
				config.Resolver = resolver
				config.Proxy = &client.Proxy{Type: kind, Address: at("vermittlung-ü.example", address)}
				recv(ctx, t, connect(ctx, t, config, "tls", bücher+":587"), "220 secure\r\n")
				resolver.want(t, "xn--vermittlung--olb.example")
			})
		})
	}
}

// The numbers that Swoole has for what a proxy or a packet has done.
func TestCodesOfWhatPeersDo(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		for _, c := range []struct {
			kind, answer string
			want         int
		}{
			{"socks5", "\x04", 7001},
			{"socks5", "\x05\xff", 7002},
			{"socks5", "\x05\x02\x01\x01", 7003},
			{"socks5", "\x05\x00\x05\x05\x00\x01", 7004},
			{"socks5", "\x05\x80", 7005},
			{"http", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", 7101},
			{"http", "HTTP/1.1 502 Bad Gateway\r\n\r\n", 7101},
			{"http", "SSH-2.0", 7104},
		} {
			address := serve(t, func(s *script) { s.hasty = true; s.say(c.answer); s.rest() })
			config := mail()
			config.Proxy = &client.Proxy{Type: c.kind, Address: address, User: "alice", Password: "secret"}
			err := client.New(config).Connect(ctx, "tcp", "mail.behind:587")
			if got := socket.Code(err); got != c.want {
				t.Errorf("%s %q: %v has code %d, want %d", c.kind, c.answer, err, got, c.want)
			}
		}
		for _, c := range []struct {
			config client.Config
			said   string
			want   int
		}{
			{client.Config{EOF: "\n", MaxPacket: 3}, "abcd\n", 1201},
			{client.Config{Length: packet.LengthField{Type: 'C'}, MaxPacket: 3}, "\x09", 1201},
			{client.Config{Length: packet.LengthField{Type: 'C'}, MaxPacket: 3}, "\x00", 1202},
		} {
			address := serve(t, func(s *script) { s.hasty = true; s.say(c.said); s.rest() })
			_, err := connect(ctx, t, c.config, "tcp", address).Recv(ctx)
			if got := socket.Code(err); got != c.want {
				t.Errorf("%q: %v has code %d, want %d", c.said, err, got, c.want)
			}
		}
		if got := socket.Code(client.ErrOverflow); got != 1009 {
			t.Errorf("ErrOverflow has code %d", got)
		}
	})
}

func TestRenegotiationIsRefused(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address, connections := counting(t)
		renegotiating := &tls.Config{Renegotiation: tls.RenegotiateFreelyAsClient}
		config, _ := recording(t, client.Config{TLS: renegotiating})
		for _, err := range []error{
			client.New(config.Config).Connect(ctx, "tcp", address),
			client.NewAsync(config).Connect(ctx, "tls", address),
		} {
			if !strings.Contains(fmt.Sprint(err), "TLS.Renegotiation") {
				t.Errorf("error is %v", err)
			}
		}
		connections(0)
	})
}

// With a context that is done nothing is begun: no socket, no SYN, no look-up.
func TestConnectWithAContextThatIsDone(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address, connections := counting(t)
		resolver := &names{ip: "127.0.0.1"}
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		late, cancelLate := context.WithTimeout(ctx, -1)
		defer cancelLate()
		config, r := recording(t, client.Config{Resolver: resolver})
		for _, done := range []context.Context{cancelled, late} {
			for _, to := range []string{address, at("mail.test", address)} {
				c := client.New(config.Config)
				wantError(t, "Connect", c.Connect(done, "tcp", to), done.Err())
				if c.Socket() != nil {
					t.Error("there is a socket")
				}
				a := client.NewAsync(config)
				wantError(t, "Connect of an Async", a.Connect(done, "tcp", to), done.Err())
				if a.State() != client.AsyncIdle {
					t.Errorf("the Async is %v", a.State())
				}
			}
		}

		// Done before the attempt has begun.
		soonDone, cancelSoon := context.WithCancel(ctx)
		rt, err := runtime.From(ctx)
		check(t, err)
		var a *client.Async
		var wait sync.WaitGroup
		wait.Add(1)
		check(t, rt.Loops()[0].Post(func() {
			defer wait.Done()
			var d *client.AsyncDialer
			if d, err = client.NewAsyncDialer(config); err == nil {
				a, err = d.Dial(soonDone, "tcp", address)
			}
			cancelSoon()
		}))
		_, awaitErr := runtime.Await(ctx, func() (int, error) { wait.Wait(); return 0, nil })
		check(t, awaitErr)
		check(t, err)
		r.until(ctx, "error")
		wantError(t, "the Async's attempt", r.reason(), context.Canceled)
		if a.Connected() {
			t.Error("the Async is connected")
		}
		resolver.want(t)
		connections(0)
	})
}

// counting starts a listener. The function that it returns checks how many connections were made to
// it.
func counting(t testing.TB) (address string, want func(n int)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	return l.Addr().String(), func(n int) {
		t.Helper()
		last, err := net.Dial("tcp", l.Addr().String()) // is accepted after all that came before
		check(t, err)
		defer last.Close()
		for count := 0; ; count++ {
			conn, err := l.Accept()
			check(t, err)
			conn.Close()
			if conn.RemoteAddr().String() != last.LocalAddr().String() {
				continue
			}
			if count != n {
				t.Errorf("%d connections were made, want %d", count, n)
			}
			return
		}
	}
}

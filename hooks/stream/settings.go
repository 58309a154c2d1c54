package stream

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/whorl-go/whorl/internal/option"
	"github.com/whorl-go/whorl/internal/unix"
	"github.com/whorl-go/whorl/socket"
)

// streamSettings is what the socket options of a context come to.
type streamSettings struct {
	bindTo  string // "" for none
	backlog int
	options []streamSockOpt
}

// streamSockOpt is an option as setsockopt(2) has it.
type streamSockOpt struct{ level, name, value int }

// apply sets them on a socket that has no descriptor yet.
func (s *streamSettings) apply(to *socket.Socket) error {
	for _, o := range s.options {
		if err := to.SetOption(o.level, o.name, o.value); err != nil {
			return err
		}
	}
	if s.bindTo != "" {
		return to.BindOnConnect(s.bindTo)
	}
	return nil
}

// streamSocketOption is one of the socket options: what it is for, and how its value is taken.
type streamSocketOption struct {
	client, server bool
	networks       string
	set            option.Setter[streamSettings]
}

// setter returns what becomes of the option on a stream. Without a URL only its value is looked at.
func (o streamSocketOption) setter(u *streamURL, server bool) option.Setter[streamSettings] {
	switch {
	case u == nil:
	case server && !o.server:
		return option.Refuse[streamSettings](
			errors.New("is for clients: a server has no use for it"),
		)
	case !server && !o.client:
		return option.Refuse[streamSettings](
			errors.New("is for servers: a client has no use for it"),
		)
	case !slices.Contains(strings.Fields(o.networks), u.network):
		return option.Refuse[streamSettings](fmt.Errorf("can't be honoured on %s://", u.name))
	}
	return o.set
}

var streamSocketOptions = map[string]streamSocketOption{
	"bindto":  {client: true, networks: "tcp udp", set: setBindTo},
	"backlog": {server: true, networks: "tcp unix", set: setBacklog},
	"ipv6_v6only": {
		server:   true,
		networks: "tcp udp",
		set:      sockOptBool(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY),
	},
	"so_reuseport": {
		server:   true,
		networks: "tcp udp",
		set:      sockOptBool(unix.SOL_SOCKET, unix.SO_REUSEPORT),
	},
	"so_reuseaddr": {server: true, networks: "tcp udp", set: setReuseAddr},
	"so_broadcast": {
		client:   true,
		server:   true,
		networks: "udp",
		set:      sockOptBool(unix.SOL_SOCKET, unix.SO_BROADCAST),
	},
	"tcp_nodelay": {
		client:   true,
		server:   true,
		networks: "tcp",
		set:      sockOptBool(unix.IPPROTO_TCP, unix.TCP_NODELAY),
	},
	"so_keepalive": {
		client:   true,
		server:   true,
		networks: "tcp",
		set:      sockOptBool(unix.SOL_SOCKET, unix.SO_KEEPALIVE),
	},
	"tcp_keepidle": {
		client:   true,
		server:   true,
		networks: "tcp",
		set:      sockOptInt(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 32767),
	},
	"tcp_keepintvl": {
		client:   true,
		server:   true,
		networks: "tcp",
		set:      sockOptInt(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 32767),
	},
	"tcp_keepcnt": {
		client:   true,
		server:   true,
		networks: "tcp",
		set:      sockOptInt(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 127),
	},
}

func sockOptBool(level, name int) option.Setter[streamSettings] {
	return func(s *streamSettings, value any) error {
		on, err := option.Bool(value)
		if err != nil {
			return err
		}
		number := 0
		if on {
			number = 1
		}
		s.options = append(s.options, streamSockOpt{level, name, number})
		return nil
	}
}

// sockOptInt takes 1 to most, which are the kernel's bounds.
func sockOptInt(level, name, most int) option.Setter[streamSettings] {
	return func(s *streamSettings, value any) error {
		number, err := option.Int(value)
		if err == nil && (number < 1 || number > most) {
			err = fmt.Errorf("want 1 to %d, got %d", most, number)
		}
		s.options = append(s.options, streamSockOpt{level, name, number})
		return err
	}
}

func setBacklog(s *streamSettings, value any) (err error) {
	if s.backlog, err = option.Int(value); err == nil && (s.backlog < 1 || s.backlog > 1<<16-1) {
		err = fmt.Errorf("want 1 to 65535, got %d", s.backlog)
	}
	return err
}

func setReuseAddr(_ *streamSettings, value any) error {
	on, err := option.Bool(value)
	if err == nil && !on {
		err = errors.New(
			"can't be honoured: it is always on, so that a server can be started again at once",
		)
	}
	return err
}

// setBindTo takes "address:port". 0 stands for any address, and for any port.
func setBindTo(s *streamSettings, value any) error {
	text, err := option.Filled(value)
	if err != nil {
		return err
	}
	if !strings.Contains(text, ":") {
		text += ":0"
	}
	host, port, err := streamHostPort(text)
	if err != nil {
		return err
	}
	if host == "0" || host == "" {
		host = "0.0.0.0"
		if port == 0 {
			return nil // which is what happens without
		}
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Errorf("%q is no address of this machine: want it in numbers", host)
	}
	s.bindTo = net.JoinHostPort(host, fmt.Sprint(port))
	return nil
}

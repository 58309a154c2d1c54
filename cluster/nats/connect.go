package nats

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// Config is how a Broker connects. Zero fields have the defaults that their comments name.
type Config struct {
	// Name is what the servers' lists of connections show. The default is "whorl".
	Name string

	// Prefix is how all subjects begin: programs with different prefixes share a NATS without
	// hearing of each other. Up to 64 letters, digits, '-' and '_', with dots between them. The
	// default is "whorl".
	Prefix string

	// How the program says who it is; one of them, or it is in the URL
	// ("nats://user:password@host", "nats://token@host"). Credentials and NKey are names of files.
	Credentials    string // of a JWT and a seed, as nsc writes them
	NKey           string // of a seed
	User, Password string
	Token          string

	// TLS asks for TLS, as a "tls://" URL does. CA names a file with the certificates, in PEM, that
	// the server's must come from; without it, and without TLS.RootCAs, those of the system. On a
	// "nats://" URL without both, it is the server that decides whether there is TLS.
	TLS *tls.Config
	CA  string

	ConnectTimeout time.Duration // of one server, handshakes included; and of a request. 5 s
	PingInterval   time.Duration // a server that misses two answers is left. 10 s
	WriteTimeout   time.Duration // how long a server may take nothing of what waits for it. 10 s
	ReconnectWait  time.Duration // between two rounds through all servers, and up to half more. 1 s

	// MaxPending is how many bytes may wait for a server that takes less than is published. Beyond
	// them Publish fails. 8 MiB
	MaxPending int

	// What the Receiver is behind with, at most. Messages beyond these are dropped, and reported
	// (cluster.ErrSlow). 65,536 messages and 64 MiB
	QueueMessages int
	QueueBytes    int

	// History has JetStream keep the messages of rooms. nil keeps none.
	History *History

	// Logger is told of what is no error of a call. nil is none.
	Logger *zap.Logger

	// Options are nats.go's, for all that isn't above. They can't change how the Broker connects
	// again and subscribes.
	Options []natsgo.Option
}

// A target is a server to connect to.
type target struct {
	url     string
	shown   string // without what is secret
	user    *url.Userinfo
	tlsName string // whom its certificate is of, if it isn't the address
}

// Connect returns a Broker on the NATS of one or more URLs, with commas between them:
// "nats://host:4222", or "tls://host:4222" for TLS. It is Start that connects. The error tells what
// is wrong with the URLs and the Config, without showing a password.
func Connect(urls string, config Config) (*Broker, error) {
	var targets []target
	for i, s := range strings.Split(urls, ",") {
		t, err := parse(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("cluster/nats: URL %d: %w", i+1, err)
		}
		targets = append(targets, t)
	}
	return newBroker(targets, config, nil)
}

// parse takes a URL apart. What is no URL isn't shown: it may have a password in it.
func parse(s string) (target, error) {
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" {
		return target{}, errors.New("it is not of the form nats://host:port or tls://host:port")
	}
	switch {
	case u.Scheme != "nats" && u.Scheme != "tls":
		return target{}, fmt.Errorf("it begins with %q, not with nats:// or tls://", u.Scheme)
	case u.Hostname() == "":
		return target{}, errors.New("it has no host")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return target{}, errors.New("there is something behind the host and the port")
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "4222")
	}
	u.Path = ""
	return target{url: u.String(), shown: u.Scheme + "://" + u.Host, user: u.User}, nil
}

func newBroker(targets []target, config Config, process natsgo.InProcessConnProvider) (
	*Broker, error) {
	if err := config.complete(); err != nil {
		return nil, fmt.Errorf("cluster/nats: %w", err)
	}
	o, err := config.options(targets)
	if err != nil {
		return nil, fmt.Errorf("cluster/nats: %w", err)
	}
	rand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	b := &Broker{
		config:   config,
		options:  o,
		targets:  targets,
		process:  process,
		prefix:   config.Prefix + ".",
		queue:    newQueue(config.QueueMessages, config.QueueBytes),
		subjects: map[string]*subscription{},
		suspect:  make(chan struct{}, 1),
	}
	if config.History != nil {
		b.stream = streamName(config.Prefix)
	}
	return b, nil
}

// complete sets the defaults and checks what is given.
func (c *Config) complete() error {
	or(&c.Name, "whorl")
	or(&c.Prefix, "whorl")
	or(&c.ConnectTimeout, 5*time.Second)
	or(&c.PingInterval, 10*time.Second)
	or(&c.WriteTimeout, 10*time.Second)
	or(&c.ReconnectWait, time.Second)
	or(&c.MaxPending, 8<<20)
	or(&c.QueueMessages, 1<<16)
	or(&c.QueueBytes, 64<<20)
	or(&c.Logger, zap.NewNop())
	for name, value := range map[string]int64{
		"ConnectTimeout": int64(c.ConnectTimeout), "PingInterval": int64(c.PingInterval),
		"WriteTimeout": int64(c.WriteTimeout), "ReconnectWait": int64(c.ReconnectWait),
		"MaxPending": int64(c.MaxPending), "QueueMessages": int64(c.QueueMessages),
		"QueueBytes": int64(c.QueueBytes),
	} {
		if value < 0 {
			return fmt.Errorf("negative: Config.%s", name)
		}
	}
	if err := checkPrefix(c.Prefix); err != nil {
		return err
	}
	if c.History != nil {
		h := *c.History
		c.History = &h
		return h.complete(c.History)
	}
	return nil
}

// or sets what is zero.
func or[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// options returns nats.go's. Those files are read that nats.go would only read when it connects, so
// that what is wrong with them is known now.
func (c *Config) options(targets []target) (natsgo.Options, error) {
	o := natsgo.GetDefaultOptions()
	var set []natsgo.Option
	ways := 0
	use := func(given bool, option func() (natsgo.Option, error)) error {
		if !given {
			return nil
		}
		ways++
		apply, err := option()
		set = append(set, apply)
		return err
	}
	err := errors.Join(
		use(c.Credentials != "", func() (natsgo.Option, error) {
			_, err := os.ReadFile(c.Credentials)
			return natsgo.UserCredentials(c.Credentials), err
		}),
		use(c.NKey != "", func() (natsgo.Option, error) {
			option, err := natsgo.NkeyOptionFromSeed(c.NKey)
			if err != nil {
				err = fmt.Errorf("%s: %w", c.NKey, err)
			}
			return option, err
		}),
		use(c.User != "" || c.Password != "", func() (natsgo.Option, error) {
			return natsgo.UserInfo(c.User, c.Password), nil
		}),
		use(c.Token != "", func() (natsgo.Option, error) { return natsgo.Token(c.Token), nil }),
	)
	if err != nil {
		return o, err
	}
	if ways > 1 {
		return o, errors.New("only one of Credentials, NKey, User and Token is of use")
	}
	secure := c.TLS != nil || c.CA != ""
	for _, t := range targets {
		secure = secure || strings.HasPrefix(t.url, "tls:")
	}
	if secure {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if c.TLS != nil {
			config = c.TLS.Clone()
		}
		set = append(set, natsgo.Secure(config))
	}
	if c.CA != "" {
		set = append(set, natsgo.RootCAs(c.CA))
	}
	for _, option := range append(set, c.Options...) {
		if err := option(&o); err != nil {
			return o, err
		}
	}
	o.Name, o.Timeout, o.PingInterval = c.Name, c.ConnectTimeout, c.PingInterval
	o.NoEcho, o.Verbose, o.NoCallbacksAfterClientClose = false, false, false
	return o, nil
}

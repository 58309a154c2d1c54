package nats

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
)

// EmbeddedConfig is how a server within the process is. Zero fields have the defaults that their
// comments name.
type EmbeddedConfig struct {
	// Listen has it listen on 127.0.0.1, for the other processes of the machine that are given its
	// URL; without, it is only for this process. Port is where, 0 for any that is free.
	Listen bool
	Port   int

	// Token is what clients on the network must know. The default is a random one.
	Token string

	// JetStream names a folder for it, which is made if it isn't there, and that only the user of
	// the process may use. "" is none. MaxStore and MaxMemory are how many bytes JetStream may
	// take; 1 GiB and 64 MiB.
	JetStream           string
	MaxStore, MaxMemory int64

	// MaxMessage is how many bytes a message may have, MaxPending how many may wait for a client
	// that takes less than it is sent before it is disconnected. 1 MiB and 64 MiB
	MaxMessage int
	MaxPending int64

	// Logger is told what the server logs; at its debug level, more than a production needs.
	Logger *zap.Logger
}

// A Server is a NATS server within the process: for development, for tests, and for a program on
// one machine. It ends with the process, and the connections of other processes with it. Programs
// on more machines than one use a NATS of their own, with [Connect].
type Server struct {
	server *server.Server
	log    *serverLog
	target target
}

// Embedded starts a server. It takes no signals.
func Embedded(config EmbeddedConfig) (*Server, error) {
	s, err := embed(config)
	if err != nil {
		return nil, fmt.Errorf("cluster/nats: %w", err)
	}
	return s, nil
}

// ready is how long a server may take to start.
const ready = 30 * time.Second

func embed(config EmbeddedConfig) (*Server, error) {
	or(&config.Token, rand.Text())
	or(&config.Port, server.RANDOM_PORT)
	or(&config.MaxStore, 1<<30)
	or(&config.MaxMemory, 64<<20)
	or(&config.MaxMessage, 1<<20)
	or(&config.MaxPending, 64<<20)
	or(&config.Logger, zap.NewNop())
	switch {
	case config.Port < server.RANDOM_PORT || config.Port > 65535:
		return nil, fmt.Errorf("EmbeddedConfig.Port is %d", config.Port)
	case config.MaxStore < 0, config.MaxMemory < 0, config.MaxPending < 0,
		config.MaxMessage < 0, config.MaxMessage > 8<<20:
		return nil, errors.New("a bound of EmbeddedConfig is negative, or more than 8 MiB " +
			"for a message")
	}
	o := &server.Options{
		ServerName:            "whorl-" + rand.Text()[:8],
		Host:                  "127.0.0.1",
		Port:                  config.Port,
		DontListen:            !config.Listen,
		Authorization:         config.Token,
		NoSigs:                true,
		MaxPayload:            int32(config.MaxMessage),
		MaxPending:            config.MaxPending,
		DisableShortFirstPing: true,
	}
	if dir := config.JetStream; dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return nil, err
		}
		o.JetStream, o.StoreDir = true, dir
		o.JetStreamMaxStore, o.JetStreamMaxMemory = config.MaxStore, config.MaxMemory
	}
	log := &serverLog{to: config.Logger, fatal: make(chan string, 1)}
	return start(o, log)
}

// start starts a server and waits until it can be connected to.
func start(o *server.Options, log *serverLog) (*Server, error) {
	ns, err := server.NewServer(o)
	if err != nil {
		return nil, err
	}
	debug := log.to.Core().Enabled(zap.DebugLevel)
	ns.SetLoggerV2(log, debug, false, false)
	s := &Server{server: ns, log: log}
	started := make(chan struct{})
	go func() {
		ns.Start()
		close(started)
	}()
	if err := log.wait(ns); err != nil {
		ns.Shutdown()
		<-started
		return nil, err
	}
	<-started
	user := url.User(o.Authorization)
	host := net.JoinHostPort(o.Host, "0")
	if !o.DontListen {
		host = ns.Addr().String()
	}
	u := url.URL{Scheme: "nats", User: user, Host: host}
	s.target = target{url: u.String(), shown: "the server within the process", user: user}
	return s, nil
}

// wait waits until a server can be connected to, and all of it has started; or not.
func (l *serverLog) wait(ns *server.Server) error {
	for deadline := time.Now().Add(ready); ; {
		up := ns.ReadyForConnections(10 * time.Millisecond)
		select {
		case text := <-l.fatal: // JetStream may have failed, and the rest goes on
			return errors.New(text)
		default:
		}
		if up {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("the server doesn't start")
		}
	}
}

// Connect returns a Broker on the server, connected within the process. Who it is, and TLS, need
// not be in the Config.
func (s *Server) Connect(config Config) (*Broker, error) {
	config.Credentials, config.NKey, config.User, config.Password = "", "", "", ""
	config.Token, config.TLS, config.CA = "", nil, ""
	return newBroker([]target{s.target}, config, s.server)
}

// URL returns what other processes give to Connect, with the token in it; "" if the server doesn't
// listen.
func (s *Server) URL() string {
	if s.server.Addr() == nil {
		return ""
	}
	return s.target.url
}

// Close ends the server, and all connections to it, and waits until it has ended or ctx is done: it
// then ends by itself.
func (s *Server) Close(ctx context.Context) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.server.Shutdown()
		s.server.WaitForShutdown()
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cluster/nats: the server hasn't ended yet: %w", context.Cause(ctx))
	}
}

// A serverLog is the server's logger. What is fatal to the server is not to the process:
// nats-server goes on after Fatalf, or returns.
type serverLog struct {
	to    *zap.Logger
	fatal chan string // the first
}

func (l *serverLog) Noticef(format string, v ...any) { l.to.Info(fmt.Sprintf(format, v...)) }
func (l *serverLog) Warnf(format string, v ...any)   { l.to.Warn(fmt.Sprintf(format, v...)) }
func (l *serverLog) Errorf(format string, v ...any)  { l.to.Error(fmt.Sprintf(format, v...)) }
func (l *serverLog) Debugf(format string, v ...any)  { l.to.Debug(fmt.Sprintf(format, v...)) }
func (l *serverLog) Tracef(format string, v ...any)  { l.to.Debug(fmt.Sprintf(format, v...)) }

func (l *serverLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.to.Error(text, zap.Bool("fatal", true))
	select {
	case l.fatal <- text:
	default:
	}
}

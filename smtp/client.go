package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/internal/dialing"
	"github.com/whorl-go/whorl/internal/reply"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp/internal/engine"
	"github.com/whorl-go/whorl/socket"
)

// A Client is a session with a server that has got through its beginning: it is ready for mails.
// Make it with [Dial] or a [Dialer].
//
// Its methods may be called from any coroutine and any goroutine, one at a time; a second caller
// gets socket.ErrBusy. Close may be called at any time. After an error that is an [*Error] without
// Lost, or that says that nothing of the mail was sent, the session goes on; after all others it is
// closed, and methods return net.ErrClosed.
type Client struct {
	dialer  *Dialer
	conn    transport
	address string
	engine  engine.Engine
	busy    atomic.Bool // a method is called
	ended   atomic.Bool // the session is over
	used    time.Time   // when a method was called last; for whoever calls one
}

// pauseTime is how long after a method a session has to be looked at before the next one: it costs
// a system call. Within it, what the server does is found out by the method itself.
const pauseTime = 10 * time.Millisecond

// wrap names the server in an error.
func (c *Client) wrap(err error) error { return name(c.address, err) }

// begin holds the beginning of the dialogue.
func (c *Client) begin(ctx context.Context) (err error) {
	proper := false // begin returns
	defer func() {
		if !proper {
			c.end(transport.Abort)
		}
	}()
	name := c.dialer.hello
	if name == "" {
		name = dialing.Literal(c.conn.LocalAddr())
	}
	c.engine.Init(&c.dialer.engine, name)
	c.engine.Begin()
	if err = c.drive(ctx); err == nil {
		err = c.login(ctx)
	}
	if err != nil {
		c.part(ctx, err)
	}
	c.conn.rest()
	proper = true
	return err
}

// part ends a session that hasn't come to be one. Where both sides still understand each other, it
// is ended in good order.
func (c *Client) part(ctx context.Context, err error) {
	refused, ok := errors.AsType[*Error](err)
	if ok && !refused.Lost || errors.Is(err, ErrNoTLS) || errors.Is(err, ErrAuthNeedsTLS) ||
		errors.Is(err, ErrNoMechanism) {
		c.leave(ctx)
		return
	}
	c.end(transport.Abort)
}

// login logs in, if there is anything to log in with.
func (c *Client) login(ctx context.Context) error {
	if len(c.dialer.auth) == 0 {
		return nil
	}
	if !c.engine.IsSecure() {
		return ErrAuthNeedsTLS
	}
	offers := c.engine.Offers()
	i := slices.IndexFunc(c.dialer.auth, func(m Mechanism) bool { return offers.HasAuth(m.Name) })
	if i < 0 {
		return fmt.Errorf("%w: it has %s", ErrNoMechanism, reply.Quote([]byte(offers.AuthNames)))
	}
	state, _ := c.conn.ConnectionState()
	exchange, err := c.dialer.auth[i].Start(ctx, Session{
		Address: c.address, TLS: state, Offered: offers.AuthNames,
	})
	if err == nil {
		err = c.engine.Auth(exchange)
	}
	if err != nil {
		return fmt.Errorf("AUTH %s: %w", c.dialer.auth[i].Name, err)
	}
	return c.drive(ctx)
}

// drive does what the engine asks for, until it is done or wants the message. After an error the
// caller ends the session if that is broken.
func (c *Client) drive(ctx context.Context) error {
	for {
		if err := c.say(ctx); err != nil {
			return err
		}
		switch c.engine.Next() {
		case engine.Receive:
			if err := c.receive(ctx); err != nil {
				return err
			}
		case engine.Secure:
			if err := c.conn.EnableSSL(ctx); err != nil {
				return fmt.Errorf("TLS: %w", err)
			}
			// Who speaks before he is asked, in the first words over TLS, is not to be trusted.
			if err := c.silent(); err != nil {
				return err
			}
			c.traceTLS()
			c.engine.Secured()
		default:
			return nil
		}
	}
}

// say sends what the engine has to say.
func (c *Client) say(ctx context.Context) error {
	quiet, step := c.engine.Quiet(), c.engine.Step()
	out := c.engine.Output()
	if len(out) == 0 {
		return nil
	}
	if quiet && c.conn.arrived() {
		return c.silent()
	}
	c.dialer.trace.sent(step, out)
	return c.send(ctx, step, out)
}

func (c *Client) traceTLS() {
	if c.dialer.trace != nil {
		state, _ := c.conn.ConnectionState()
		c.dialer.trace.secured(&state)
	}
}

func (c *Client) send(ctx context.Context, step engine.Step, p []byte) error {
	if _, err := c.conn.Send(ctx, p); err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	return nil
}

// silent returns an error unless the server is there and says nothing. It doesn't wait.
func (c *Client) silent() error {
	var early [256]byte
	n, err := c.conn.Peek(early[:])
	switch {
	case n > 0:
		return fmt.Errorf("%w: the server spoke out of turn: %s", ErrProtocol,
			reply.Quote(early[:n]))
	case errors.Is(err, socket.ErrWouldBlock):
		return nil
	}
	return closed(err)
}

// closed makes the end of a connection an error that says so.
func closed(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("the server has closed the connection: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// receive receives a line, or the rest of a reply that has several. The time-out is for all of it.
func (c *Client) receive(ctx context.Context) error {
	step := c.engine.Step()
	limit := c.dialer.timeouts[step]
	began := time.Now()
	c.conn.patience(limit)
	for {
		line, err := c.conn.Recv(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w%s", step, closed(err), c.hint(step, err))
		}
		c.dialer.trace.received(step, line)
		if step == engine.Auth {
			err = c.computed(ctx, line)
		} else {
			err = c.engine.Line(line)
		}
		if err != nil || !c.engine.Begun() {
			return err
		}
		if limit > 0 {
			c.conn.patience(max(limit-time.Since(began), 1))
		}
	}
}

// hint says what may be the cause of an error. A server for TLS from the start waits for the
// client's first word, and then times out or gives up.
func (c *Client) hint(step engine.Step, err error) string {
	waited := errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, context.DeadlineExceeded)
	if step == engine.Greeting && waited && !c.engine.Begun() && !c.engine.IsSecure() {
		return `: if it wants TLS from the start, as on port 465, Config.Security has to be Implicit`
	}
	return ""
}

// computed gives the engine a line whose answer takes a while to compute: SCRAM is meant to be
// slow. The engine must not be left alone with it, so nothing ends this sooner.
func (c *Client) computed(ctx context.Context, line []byte) error {
	line = slices.Clone(line)
	_, err := runtime.Await(context.WithoutCancel(ctx), func() (struct{}, error) {
		return struct{}{}, c.engine.Line(line)
	})
	return err
}

// acquire is for the beginning of a method: one at a time, of a session that isn't over. What the
// server has said while nobody asked it, and that it has gone, is noticed here.
func (c *Client) acquire() error {
	if !c.busy.CompareAndSwap(false, true) {
		return c.wrap(socket.ErrBusy)
	}
	if c.ended.Load() {
		c.busy.Store(false)
		return c.wrap(net.ErrClosed)
	}
	if time.Since(c.used) < pauseTime {
		return nil
	}
	if err := c.silent(); err != nil {
		c.end(transport.Abort)
		c.busy.Store(false)
		return c.wrap(err)
	}
	return nil
}

// release is for the end of a method, in a defer: so it also sees those that end by a panic, which
// leave the dialogue at an unknown place. err is what the method returns.
func (c *Client) release(proper bool, err error) {
	if !proper || err != nil && !c.goesOn(err) || c.engine.Broken() {
		how := transport.Abort
		if proper && (err == nil || c.engine.Broken() && errors.As(err, new(*Error))) {
			how = transport.Close
		}
		c.end(how)
	}
	c.conn.rest()
	c.used = time.Now()
	c.busy.Store(false)
}

// goesOn reports whether a session goes on after an error.
func (c *Client) goesOn(err error) bool {
	if _, ok := errors.AsType[*Error](err); ok {
		return !c.engine.Broken()
	}
	return errors.Is(err, errUnsent)
}

// errUnsent marks errors of mails of which nothing was sent.
var errUnsent = errors.New("nothing was sent")

func (c *Client) end(how func(transport) error) error {
	c.ended.Store(true)
	return how(c.conn)
}

// command sends a command and returns what the server says to it.
func (c *Client) command(ctx context.Context, verb, argument string) (answer string, err error) {
	if err := c.acquire(); err != nil {
		return "", err
	}
	proper := false
	defer func() { c.release(proper, err) }()
	if err = c.engine.Command(verb, argument); err != nil {
		proper, err = true, &unsent{err}
		return "", c.wrap(err)
	}
	err = c.drive(ctx)
	proper = true
	return c.engine.Answer(), c.wrap(err)
}

// unsent is an error before anything was sent.
type unsent struct{ error }

func (e *unsent) Unwrap() error        { return e.error }
func (e *unsent) Is(target error) bool { return target == errUnsent }

// Verify asks whether there is a mailbox, by VRFY. It returns the server's answer. Most servers
// don't say: they answer 252, which is no error, or refuse.
func (c *Client) Verify(ctx context.Context, address string) (answer string, err error) {
	return c.command(ctx, "VRFY", address)
}

// Noop asks for nothing but an answer, by NOOP.
func (c *Client) Noop(ctx context.Context) error {
	_, err := c.command(ctx, "NOOP", "")
	return err
}

// Reset has the server forget what it may keep of a mail that it hasn't accepted, by RSET. Send
// does so itself where that is due.
func (c *Client) Reset(ctx context.Context) error {
	_, err := c.command(ctx, "RSET", "")
	return err
}

// Quit ends the session in good order, by QUIT, and closes it.
func (c *Client) Quit(ctx context.Context) error {
	_, err := c.command(ctx, "QUIT", "")
	if err != nil && !c.ended.Load() {
		c.Close() // a server that refuses to be left
	}
	return err
}

// Close closes the connection, whatever is under way.
func (c *Client) Close() error { return c.end(transport.Close) }

// leave ends the session by QUIT without waiting for the answer: the connection closes when that
// was delivered.
func (c *Client) leave(ctx context.Context) {
	quit := []byte("QUIT\r\n")
	c.dialer.trace.sent(engine.Other, quit)
	c.conn.Send(ctx, quit)
	c.Close()
}

// Extension returns what the server has said about an extension, such as "SIZE" or "AUTH", in upper
// case, and whether it offers that.
func (c *Client) Extension(keyword string) (params string, ok bool) {
	return c.engine.Offers().Param(keyword)
}

// ConnectionState returns what the TLS handshake has agreed on; ok is false without TLS.
func (c *Client) ConnectionState() (state tls.ConnectionState, ok bool) {
	return c.conn.ConnectionState()
}

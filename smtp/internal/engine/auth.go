package engine

import (
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/whorl-go/whorl/internal/reply"
)

// ErrAuthNeedsTLS is returned when there are credentials and no TLS to send them over.
var ErrAuthNeedsTLS = errors.New("credentials are only sent over TLS, and there is none")

// ErrNotProven is returned when a server lets somebody in without having proven that it knows the
// password, which its mechanism has it do.
var ErrNotProven = errors.New("the server has not proven who it is")

// A Mechanism is one exchange of a SASL mechanism: go-sasl's Client.
type Mechanism interface {
	Start() (name string, initial []byte, err error)
	Next(challenge []byte) (response []byte, err error)
}

// A Prover is a Mechanism in which the server has to prove something, too.
type Prover interface {
	Proven() bool
}

type authentication struct {
	mechanism Mechanism
	name      string
	initial   []byte // that didn't fit into the command
	answered  int    // challenges
	failed    error  // why this side has called it off
}

// maxChallenges is how many a server may have answered: no mechanism has that many.
const maxChallenges = 16

// maxCommand is how long a command line may be, with its end: RFC 5321, section 4.5.3.1.4.
const maxCommand = 512

// Auth begins an authentication.
func (e *Engine) Auth(mechanism Mechanism) error {
	if !e.secure {
		return ErrAuthNeedsTLS
	}
	name, initial, err := mechanism.Start()
	if err != nil {
		return err
	}
	if err := checkText("mechanism", name); err != nil {
		return err
	}
	e.auth = authentication{mechanism: mechanism, name: name}
	encoded := base64.StdEncoding.EncodeToString(initial)
	switch {
	case initial == nil:
		e.say("AUTH ", name)
	case encoded == "":
		e.say("AUTH ", name, " =")
	case len("AUTH  \r\n")+len(name)+len(encoded) > maxCommand:
		e.auth.initial = initial
		e.say("AUTH ", name)
	default:
		e.say("AUTH ", name, " ", encoded)
	}
	e.await(Auth, (*Engine).onAuth)
	return nil
}

func (e *Engine) onAuth(r *reply.Reply) error {
	a := &e.auth
	switch {
	case a.failed != nil: // answers "*"
		err := a.failed
		e.auth = authentication{}
		if r.Code < 400 {
			return e.fail(err)
		}
		e.action = Done
		return err
	case r.Code == 334:
		return e.challenged(r)
	case r.Code == 235:
		prover, ok := a.mechanism.(Prover)
		e.auth = authentication{}
		if ok && !prover.Proven() {
			return e.fail(fmt.Errorf("AUTH: %w", ErrNotProven))
		}
		e.action = Done
		return nil
	}
	name := a.name
	e.auth = authentication{}
	err := e.refusal(r)
	if refused, ok := err.(*Error); ok {
		refused.Command = "AUTH " + name
	}
	return err
}

// challenged answers a challenge, or calls the exchange off: RFC 4954, section 4.
func (e *Engine) challenged(r *reply.Reply) error {
	a := &e.auth
	challenge, err := base64.StdEncoding.DecodeString(r.Text())
	var response []byte
	a.answered++
	switch {
	case a.answered > maxChallenges:
		err = fmt.Errorf("%w: AUTH: challenges without end", ErrProtocol)
	case a.initial != nil: // the challenge is empty, and waits for it
		response, a.initial = a.initial, nil
	case err != nil:
		err = fmt.Errorf("%w: AUTH: a challenge that is not in base64", ErrProtocol)
	default:
		response, err = a.mechanism.Next(challenge)
	}
	if err != nil {
		a.failed = fmt.Errorf("AUTH %s: %w", a.name, err)
		e.say("*")
		return nil
	}
	e.say(base64.StdEncoding.EncodeToString(response))
	return nil
}

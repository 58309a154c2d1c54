package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/whorl-go/whorl/smtp/internal/engine"
)

// Each command answered with each code, "others" of the case list: only what the command's own
// codes say is a yes; from 400 on it is a refusal, with that code; all else breaks the protocol. A
// session goes on only where both sides still know where they are.
func TestEachCodeToEachCommand(t *testing.T) {
	codes := []int{220, 221, 250, 354, 421, 454, 500, 501, 502, 504, 530, 550, 554}
	fresh := beginning(engine.Implicit)
	for command, test := range map[string]struct {
		yes    []int
		before []string // replies
		after  []string // to what follows a yes
		begin  func(t *testing.T) *engine.Engine
		mail   bool // it is a part of one
		fatal  bool // nothing goes on after a refusal
	}{
		"greeting": {yes: []int{220}, after: []string{hello()}, begin: fresh, fatal: true},
		"EHLO":     {yes: []int{250}, before: []string{"220 a"}, begin: fresh, fatal: true},
		"HELO": {yes: []int{250}, before: []string{"220 a", "500 what?"}, begin: fresh,
			fatal: true},
		"STARTTLS": {yes: []int{220}, before: []string{"220 a", hello("STARTTLS")},
			after: []string{hello()}, begin: beginning(engine.Opportunistic), fatal: true},
		"QUIT": {yes: []int{220, 221, 250}, begin: commanded("QUIT")},
		"RSET": {yes: []int{220, 221, 250}, begin: commanded("RSET")},
		"NOOP": {yes: []int{220, 221, 250}, begin: commanded("NOOP")},
		"VRFY": {yes: []int{220, 221, 250}, begin: commanded("VRFY")},
		"MAIL": {yes: []int{250}, after: []string{"250 b", "354 c", "250 d"},
			begin: mailed, mail: true},
		"RCPT": {yes: []int{250}, before: []string{"250 a"}, after: []string{"354 c", "250 d"},
			begin: mailed, mail: true},
		"DATA": {yes: []int{354}, before: []string{"250 a", "250 b"}, after: []string{"250 d"},
			begin: mailed, mail: true},
		"end of message": {yes: []int{250}, before: []string{"250 a", "250 b", "354 c"},
			begin: mailed, mail: true},
	} {
		for _, code := range codes {
			if command == "EHLO" && (code == 500 || code == 502) {
				continue // it may be an old server: HELO
			}
			t.Run(fmt.Sprint(command, " ", code), func(t *testing.T) {
				e := test.begin(t)
				replies := append(slices.Clone(test.before), fmt.Sprint(code, " 250 words"))
				yes := slices.Contains(test.yes, code)
				if yes {
					replies = append(replies, test.after...)
				}
				_, err := talk(e, replies...)
				if err == nil && test.mail {
					err = e.Outcome()
				}
				refused, isRefused := errors.AsType[*engine.Error](err)
				broken := e.Broken()
				switch {
				case yes:
					check(t, err)
					if broken != (command == "QUIT") {
						t.Errorf("the session is over: %v", broken)
					}
				case code < 400:
					if !errors.Is(err, engine.ErrProtocol) || !broken {
						t.Errorf("error is %v, the session over: %v", err, broken)
					}
				default:
					if !isRefused || refused.Code != code || refused.Temporary() != (code < 500) ||
						refused.Lost != (code == 421) || broken != (test.fatal || code == 421) {
						t.Errorf("error is %v, the session over: %v", err, broken)
					}
				}
			})
		}
	}
}

// beginning is a session that begins.
func beginning(security engine.Security) func(t *testing.T) *engine.Engine {
	return func(*testing.T) *engine.Engine {
		e := new(engine.Engine)
		e.Init(&engine.Config{Security: security}, "me.test")
		e.Begin()
		return e
	}
}

// commanded is a session in which a command was given.
func commanded(verb string) func(t *testing.T) *engine.Engine {
	return func(t *testing.T) *engine.Engine {
		e := begin(t, engine.Config{})
		check(t, e.Command(verb, ""))
		return e
	}
}

// mailed is a session in which a mail was begun.
func mailed(t *testing.T) *engine.Engine {
	e := begin(t, engine.Config{})
	check(t, e.Mail(&engine.Envelope{From: "a@b", To: []string{"c@d"}}))
	return e
}

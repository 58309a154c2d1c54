package tlsconfig

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"
)

const (
	oldTicketKeys = 3  // keys that are kept to decrypt, after they have encrypted for one rotation
	maxTicketKeys = 16 // a ticket is tried with each of them
)

// ticketKeys has the keys from which those of the session tickets are made: random ones, given
// ones, or none where they come from a secret and the time.
//
// What crypto/tls gets is derived from them together with the policy for client certificates.
// crypto/tls itself looks at the client's chain again when a session is resumed, but not at all of
// the policy, and tickets may come from another process: one that can't be decrypted can't get
// around anything.
type ticketKeys struct {
	options TicketOptions
	random  []randomKey // newest first
}

type randomKey struct {
	key  [32]byte
	made time.Time
}

// at returns the keys for now, the one to encrypt with first, and when they are to change: never,
// if that is the zero time.
func (t *ticketKeys) at(now time.Time, secret []byte) (keys [][32]byte, until time.Time) {
	rotation := t.options.Rotation
	switch {
	case len(t.options.Keys) > 0:
		return t.options.Keys, time.Time{}
	case len(secret) > 0:
		seconds := int64(rotation / time.Second)
		epoch := now.Unix() / seconds
		keys = append(keys, epochKey(secret, rotation, epoch))
		// Of a process whose clock is ahead.
		keys = append(keys, epochKey(secret, rotation, epoch+1))
		for age := range int64(oldTicketKeys) {
			keys = append(keys, epochKey(secret, rotation, epoch-1-age))
		}
		return keys, time.Unix((epoch+1)*seconds, 0)
	}

	// A key from the future is one of a clock that has been set back since.
	if age := t.age(now); age < 0 || age >= rotation {
		fresh := randomKey{made: now}
		rand.Read(fresh.key[:]) // never fails
		t.random = append([]randomKey{fresh}, t.random[:min(len(t.random), oldTicketKeys)]...)
	}
	for i, k := range t.random {
		if i > 0 && now.Sub(k.made) >= (oldTicketKeys+1)*rotation {
			t.random = t.random[:i]
			break
		}
		keys = append(keys, k.key)
	}
	return keys, t.random[0].made.Add(rotation)
}

// age returns how old the newest key is, less than 0 if there is none.
func (t *ticketKeys) age(now time.Time) time.Duration {
	if len(t.random) == 0 {
		return -1
	}
	return now.Sub(t.random[0].made)
}

// epochKey returns the key of one span of time.
func epochKey(secret []byte, rotation time.Duration, epoch int64) [32]byte {
	info := binary.BigEndian.AppendUint64(
		[]byte("whorl session ticket epoch"),
		uint64(rotation/time.Second),
	)
	return derive(secret, binary.BigEndian.AppendUint64(info, uint64(epoch)))
}

// derive returns the key that HKDF (RFC 5869) makes of a secret for a purpose.
func derive(secret, info []byte) (key [32]byte) {
	made, err := hkdf.Key(sha256.New, secret, nil, string(info), len(key))
	if err != nil {
		// Only if more than 255 hashes are asked for, or secrets under FIPS 140 that are shorter
		// than ours.
		panic(err)
	}
	copy(key[:], made)
	return key
}

// ticketsDue reports whether the keys are to change.
func (s *Server) ticketsDue() bool {
	at := s.rotateAt.Load()
	if at == 0 {
		return false
	}
	left := at - s.now().Unix()
	// The clock was set back.
	return left <= 0 || left > int64(s.options.Tickets.Rotation/time.Second)+1
}

// rotate changes the keys if it is time.
func (s *Server) rotate() {
	if s.ticketsDue() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.renewTickets(s.state.Load())
	}
}

// renewTickets gives the state the keys of now. The caller holds s.mu.
func (s *Server) renewTickets(state *serverState) {
	if s.options.Tickets.Off {
		return
	}
	keys, until := s.tickets.at(s.now(), state.secret)
	bound := make([][32]byte, len(keys))
	for i, key := range keys {
		bound[i] = derive(key[:], append([]byte("whorl session ticket policy"), state.policy[:]...))
	}
	state.config.SetSessionTicketKeys(bound)
	if until.IsZero() {
		s.rotateAt.Store(0)
		return
	}
	s.rotateAt.Store(until.Unix())
}

// SetTicketKeys replaces the Keys of the options: the first encrypts new tickets, all decrypt. It
// is an error on a Server that was made without any.
func (s *Server) SetTicketKeys(keys [][32]byte) error {
	switch {
	case len(s.options.Tickets.Keys) == 0:
		return errors.New("tlsconfig: the keys of this server's tickets are not given ones")
	case len(keys) == 0 || len(keys) > maxTicketKeys:
		return &OptionError{"Tickets", errors.New("want 1 to 16 Keys")}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tickets.options.Keys = append([][32]byte(nil), keys...)
	s.renewTickets(s.state.Load())
	return nil
}

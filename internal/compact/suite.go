package compact

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
)

// A suite is one of the three of TLS 1.3 (RFC 8446, appendix B.4).
type suite struct {
	hash   func() hash.Hash
	secret int // bytes of a secret, those of the hash
	key    int // bytes of a key
	aead   func(key []byte) (cipher.AEAD, error)
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

var suites = map[uint16]*suite{
	tls.TLS_AES_128_GCM_SHA256: {sha256.New, sha256.Size, 16, gcm},
	tls.TLS_AES_256_GCM_SHA384: {sha512.New384, sha512.Size384, 32, gcm},
	tls.TLS_CHACHA20_POLY1305_SHA256: {
		sha256.New, sha256.Size, chacha20poly1305.KeySize, chacha20poly1305.New,
	},
}

// expander is for HKDF-Expand-Label with a secret.
func (s *suite) expander(secret []byte) hash.Hash { return hmac.New(s.hash, secret) }

// expand is HKDF-Expand-Label with an empty context (RFC 8446, section 7.1). What is asked for is
// never longer than a hash: then HKDF-Expand is one HMAC (RFC 5869, section 2.3), and that of
// crypto/hkdf would prepare the secret each time.
func expand(expander hash.Hash, label string, length int) []byte {
	info := make([]byte, 0, 64)
	info = append(info, byte(length>>8), byte(length), byte(len("tls13 ")+len(label)))
	info = append(info, "tls13 "...)
	info = append(info, label...)
	expander.Reset()
	expander.Write(append(info, 0, 1))
	return expander.Sum(info[:0])[:length]
}

const (
	maxSecret = sha512.Size384
	nonceSize = 12
)

// A half is one direction of a Capture.
type half struct {
	secret [maxSecret]byte
	seq    uint64 // of the next record
}

// keys are what is kept of a direction: the secret, and the key and the IV that come from it (RFC
// 8446, section 7.3). Those two could be made anew each time, which would take a connection some
// 60 bytes less, and its first packet more than twice as long.
type keys []byte

// size is how long the keys of a direction are.
func (s *suite) size() int { return s.secret + s.key + nonceSize }

func (k keys) secret(s *suite) []byte { return k[:s.secret] }
func (k keys) key(s *suite) []byte    { return k[s.secret : s.secret+s.key] }
func (k keys) iv(s *suite) []byte     { return k[s.secret+s.key:] }

// begin sets the secret, and the key and the IV that come from it.
func (k keys) begin(s *suite, secret []byte) {
	copy(k.secret(s), secret)
	key, iv := s.traffic(secret)
	copy(k.key(s), key)
	copy(k.iv(s), iv)
	clear(key)
}

// next goes on to the next secret (RFC 8446, section 7.2).
func (k keys) next(s *suite) {
	secret := expand(s.expander(k.secret(s)), "traffic upd", s.secret)
	k.begin(s, secret)
	clear(secret)
}

// traffic makes the key and the IV of a secret (RFC 8446, section 7.3).
func (s *suite) traffic(secret []byte) (key, iv []byte) {
	expander := s.expander(secret)
	return expand(expander, "key", s.key), expand(expander, "iv", nonceSize)
}

// live is what a direction needs to work.
type live struct {
	aead    cipher.AEAD
	iv      [nonceSize]byte
	scratch [nonceSize]byte // of whoever uses the direction
}

// wake expands a key.
func (s *suite) wake(key, iv []byte) *live {
	aead, err := s.aead(key)
	if err != nil {
		panic("compact: " + err.Error()) // the key has the right length
	}
	l := &live{aead: aead}
	copy(l.iv[:], iv)
	return l
}

// nonce returns that of the record with a number (RFC 8446, section 5.3), until the next call.
func (l *live) nonce(seq uint64) []byte {
	l.scratch = l.iv
	tail := l.scratch[nonceSize-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^seq)
	return l.scratch[:]
}

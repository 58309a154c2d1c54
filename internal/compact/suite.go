package compact

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
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
	tls.TLS_AES_128_GCM_SHA256:       {sha256.New, sha256.Size, 16, gcm},
	tls.TLS_AES_256_GCM_SHA384:       {sha512.New384, sha512.Size384, 32, gcm},
	tls.TLS_CHACHA20_POLY1305_SHA256: {sha256.New, sha256.Size, chacha20poly1305.KeySize, chacha20poly1305.New},
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

// A half is one direction.
type half struct {
	secret [maxSecret]byte
	seq    uint64
	live   *live // nil while it rests
}

// live is what a direction needs to work.
type live struct {
	aead cipher.AEAD
	iv   [nonceSize]byte
}

// wake expands the key.
func (h *half) wake(s *suite) *live {
	if h.live == nil {
		h.live = h.expanded(s)
	}
	return h.live
}

func (h *half) expanded(s *suite) *live {
	expander := s.expander(h.secret[:s.secret])
	key := expand(expander, "key", s.key)
	aead, err := s.aead(key)
	clear(key)
	if err != nil {
		panic("compact: " + err.Error()) // the key has the right length
	}
	l := &live{aead: aead}
	copy(l.iv[:], expand(expander, "iv", nonceSize))
	return l
}

// nonce returns that of the record with a number (RFC 8446, section 5.3).
func (l *live) nonce(seq uint64) (nonce [nonceSize]byte) {
	nonce = l.iv
	for i := range 8 {
		nonce[nonceSize-1-i] ^= byte(seq >> (8 * i))
	}
	return nonce
}

// next goes on to the next secret (RFC 8446, section 7.2).
func (h *half) next(s *suite) {
	secret := expand(s.expander(h.secret[:s.secret]), "traffic upd", s.secret)
	copy(h.secret[:], secret)
	clear(secret)
	h.seq, h.live = 0, nil
}

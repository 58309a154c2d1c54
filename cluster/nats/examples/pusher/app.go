package main

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An app is who uses the server: its clients know the key, its backend the secret, too.
type app struct{ id, key, secret string }

// sign returns the signature of a text.
func (a app) sign(text string) string {
	mac := hmac.New(sha256.New, []byte(a.secret))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// grant returns what lets a connection into a private channel, or with data, which says who it is,
// into a presence channel. The app's backend makes it, for those whom it knows.
func (a app) grant(socketID, channel, data string) string {
	text := socketID + ":" + channel
	if data != "" {
		text += ":" + data
	}
	return a.key + ":" + a.sign(text)
}

// granted checks what a client shows.
func (a app) granted(auth, socketID, channel, data string) bool {
	return equal(auth, a.grant(socketID, channel, data))
}

// equal compares in a time that doesn't tell where the difference is.
func equal(shown, right string) bool { return hmac.Equal([]byte(shown), []byte(right)) }

// clockSkew is by how much the clocks of the server and of the app's backend may differ.
const clockSkew = 10 * time.Minute

// requested checks the signature of a request of the app's backend.
func (a app) requested(method, path string, query url.Values, body []byte, now time.Time) error {
	seconds, err := strconv.ParseInt(query.Get("auth_timestamp"), 10, 64)
	sum := md5.Sum(body)
	switch {
	case query.Get("auth_key") != a.key:
		return errors.New("unknown auth_key")
	case query.Get("auth_version") != "1.0":
		return errors.New("auth_version must be 1.0")
	case err != nil || math.Abs(now.Sub(time.Unix(seconds, 0)).Seconds()) > clockSkew.Seconds():
		return errors.New("auth_timestamp is too far from the server's time")
	case len(body) > 0 && query.Get("body_md5") != hex.EncodeToString(sum[:]):
		return errors.New("body_md5 is another body's")
	case !equal(query.Get("auth_signature"), a.signRequest(method, path, query)):
		return errors.New("wrong auth_signature")
	}
	return nil
}

// signRequest returns the signature of a request.
func (a app) signRequest(method, path string, query url.Values) string {
	var pairs []string
	for name, values := range query {
		if name != "auth_signature" {
			pairs = append(pairs, strings.ToLower(name)+"="+values[0])
		}
	}
	slices.Sort(pairs)
	return a.sign(method + "\n" + path + "\n" + strings.Join(pairs, "&"))
}

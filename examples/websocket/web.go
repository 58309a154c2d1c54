package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed page
var files embed.FS

// pages handles what isn't a handshake: the page, and POST /token. A browser can't see why a
// handshake was refused, so the page learns here whether its name will do.
func (ch *chat) pages() http.Handler {
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // it is compiled in
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(page))
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		name := r.PostFormValue("name")
		if !isName(name) {
			http.Error(w, "A name is letters, digits, - and _, 20 at most", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		json.NewEncoder(w).Encode(map[string]string{"token": ch.passes.issue(name, time.Now())})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

// passes signs and checks passes. A pass lets somebody in under a name, and is good for a minute:
// it is part of a URL, which proxies write into their logs. Each connection gets a new one.
type passes struct{ key []byte }

const passLife = time.Minute

func newPasses() passes {
	key := make([]byte, sha256.Size)
	rand.Read(key) // it doesn't fail
	return passes{key}
}

var encoding = base64.RawURLEncoding

func (p passes) issue(name string, now time.Time) string {
	signed := fmt.Sprintf("%s.%d", encoding.EncodeToString([]byte(name)), now.Add(passLife).Unix())
	return signed + "." + encoding.EncodeToString(p.sign(signed))
}

func (p passes) check(pass string, now time.Time) (name string, ok bool) {
	parts := strings.Split(pass, ".")
	if len(parts) != 3 {
		return "", false
	}
	signature, err := encoding.DecodeString(parts[2])
	if err != nil || !hmac.Equal(signature, p.sign(parts[0]+"."+parts[1])) {
		return "", false
	}
	until, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || now.Unix() > until {
		return "", false
	}
	decoded, err := encoding.DecodeString(parts[0])
	return string(decoded), err == nil
}

func (p passes) sign(text string) []byte {
	mac := hmac.New(sha256.New, p.key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

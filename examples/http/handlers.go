package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/whorl-go/whorl/websocket"
)

//go:embed files
var files embed.FS

const maxUpload = 8 << 20

// handlers are what Swoole's onRequest would be: any http.Handler, from any router.
func (s *server) handlers() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello/{name}", hello)
	mux.HandleFunc("POST /form", form)
	mux.HandleFunc("POST /upload", upload)
	mux.HandleFunc("GET /visits", visits)
	mux.HandleFunc("GET /events", events)
	mux.Handle("GET /files/", http.FileServerFS(files))
	mux.HandleFunc("GET /ws", s.echo())
	return mux
}

func hello(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "hello, %s\n", r.PathValue("name"))
}

// form answers a form with JSON.
func form(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	year, err := strconv.Atoi(r.PostFormValue("year"))
	if err != nil {
		http.Error(w, "the year is no number", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"name": r.PostFormValue("name"), "year": year})
}

// upload takes a body while it comes, and keeps nothing of it.
func upload(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	n, err := io.Copy(sum, http.MaxBytesReader(w, r.Body, maxUpload))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		return // the client has gone
	}
	fmt.Fprintf(w, "%d bytes, SHA-256 %.12x…\n", n, sum.Sum(nil))
}

// visits counts by a cookie.
func visits(w http.ResponseWriter, r *http.Request) {
	n := 1
	if cookie, err := r.Cookie("visits"); err == nil {
		before, _ := strconv.Atoi(cookie.Value)
		n += before
	}
	http.SetCookie(w, &http.Cookie{
		Name: "visits", Value: strconv.Itoa(n), Path: "/",
		HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	fmt.Fprintf(w, "visit %d\n", n)
}

// events sends its response piece by piece, as Server-Sent Events.
func events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := 1; n <= 3; n++ {
		fmt.Fprintf(w, "data: event %d\n\n", n)
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done(): // the client has gone
			return
		}
	}
}

// echo returns the handler that makes connections WebSockets, which echo. They join a room before
// their first message comes, which would not be sure behind Upgrade.
func (s *server) echo() http.HandlerFunc {
	options := &websocket.UpgradeOptions{
		Options: websocket.Options{
			OnMessage: func(_ context.Context, c *websocket.Conn, m websocket.Message) {
				c.Push(m.Data, m.Opcode)
			},
		},
		OnOpen: func(_ context.Context, c *websocket.Conn, _ *http.Request) {
			s.sockets.Join(c, "all")
		},
	}
	return func(w http.ResponseWriter, r *http.Request) { websocket.Upgrade(w, r, options) }
}

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/whorl-go/whorl/cluster"
)

// An apiEvent is what the app's backend sends to channels.
type apiEvent struct {
	Name     string   `json:"name"`
	Data     string   `json:"data"`
	Channel  string   `json:"channel"`
	Channels []string `json:"channels"`
	SocketID string   `json:"socket_id"` // of who is to be spared, as it has caused the event
}

// api is for the app's backend: it sends events and asks who is there.
func (b *broker) api() http.Handler {
	mux := http.NewServeMux()
	base := "/apps/" + url.PathEscape(b.app.id)
	mux.HandleFunc("POST "+base+"/events", b.signed(b.event))
	mux.HandleFunc("POST "+base+"/batch_events", b.signed(b.batch))
	mux.HandleFunc("GET "+base+"/channels/{channel}", b.signed(b.channel))
	mux.HandleFunc("GET "+base+"/channels/{channel}/users", b.signed(b.users))
	if b.open {
		mux.HandleFunc("POST /pusher/auth", b.grant)       // pusher-js
		mux.HandleFunc("POST /broadcasting/auth", b.grant) // Laravel Echo
	}
	return mux
}

func (b *broker) event(w http.ResponseWriter, r *http.Request, body []byte) {
	var e apiEvent
	if json.Unmarshal(body, &e) != nil {
		http.Error(w, "the body is no JSON", http.StatusBadRequest)
		return
	}
	b.publish(w, r, e)
}

func (b *broker) batch(w http.ResponseWriter, r *http.Request, body []byte) {
	var batch struct{ Batch []apiEvent }
	if json.Unmarshal(body, &batch) != nil || len(batch.Batch) > 10 {
		http.Error(w, "the body is no batch of up to 10 events", http.StatusBadRequest)
		return
	}
	b.publish(w, r, batch.Batch...)
}

func (b *broker) channel(w http.ResponseWriter, r *http.Request, _ []byte) {
	channel := r.PathValue("channel")
	count := b.hub.Count(roomOf(channel))
	answer := map[string]any{"occupied": count > 0, "subscription_count": count}
	if isPresence(channel) {
		ids, _ := b.presence.who(channel)
		answer["user_count"] = len(ids)
	}
	reply(w, answer)
}

func (b *broker) users(w http.ResponseWriter, r *http.Request, _ []byte) {
	users := []map[string]string{}
	ids, _ := b.presence.who(r.PathValue("channel"))
	for _, id := range ids {
		users = append(users, map[string]string{"id": id})
	}
	reply(w, map[string]any{"users": users})
}

// A signedHandler handles a request whose signature is right.
type signedHandler func(w http.ResponseWriter, r *http.Request, body []byte)

// signed checks the signature of a request.
func (b *broker) signed(next signedHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body) // which the server bounds
		if err != nil {
			http.Error(w, "the body is too large", http.StatusRequestEntityTooLarge)
			return
		}
		err = b.app.requested(r.Method, r.URL.Path, r.URL.Query(), body, time.Now())
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		next(w, r, body)
	}
}

// publish sends events to channels: all, or none if one of them is wrong.
func (b *broker) publish(w http.ResponseWriter, r *http.Request, events ...apiEvent) {
	for i := range events {
		e := &events[i]
		if e.Channel != "" {
			e.Channels = append(e.Channels, e.Channel)
		}
		for _, channel := range e.Channels {
			if !channelName.MatchString(channel) {
				http.Error(w, "invalid name of a channel", http.StatusBadRequest)
				return
			}
		}
		switch {
		case e.Name == "" || len(e.Channels) == 0 || len(e.Channels) > maxChannels:
			http.Error(w, "an event has a name, and up to 100 channels", http.StatusBadRequest)
			return
		case len(e.Data) > maxEvent:
			http.Error(w, "the data is too large", http.StatusRequestEntityTooLarge)
			return
		}
	}
	for _, e := range events {
		var spared []cluster.ID
		if id, ok := bySocketID(e.SocketID); ok {
			spared = append(spared, id)
		}
		for _, channel := range e.Channels {
			data := stringEvent(e.Name, channel, e.Data)
			err := b.hub.Broadcast(r.Context(), roomOf(channel), text(data), spared...)
			if err != nil { // others may have gone out: whoever tries again sends them twice
				http.Error(w, "try again later", http.StatusServiceUnavailable)
				return
			}
		}
	}
	reply(w, map[string]any{})
}

// grant signs for everybody: the app's backend would first look who asks.
func (b *broker) grant(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	socketID, channel := r.PostFormValue("socket_id"), r.PostFormValue("channel_name")
	if _, ok := bySocketID(socketID); !ok || !isGuarded(channel) {
		http.Error(w, "there is nothing to sign", http.StatusForbidden)
		return
	}
	answer := map[string]any{}
	data := ""
	if isPresence(channel) {
		name := r.PostFormValue("user")
		who, _ := json.Marshal(map[string]any{
			"user_id": name, "user_info": map[string]string{"name": name},
		})
		data = string(who)
		answer["channel_data"] = data
	}
	answer["auth"] = b.app.grant(socketID, channel, data)
	reply(w, answer)
}

func reply(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}

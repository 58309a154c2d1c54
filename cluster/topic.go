package cluster

import (
	"slices"
	"strings"
	"time"
)

// Subjects.
const (
	subjectRoom  = "room."
	subjectUser  = "user."
	subjectNode  = "node."
	subjectNodes = "nodes"
)

// hasHistory reports whether a History keeps what is said: it is a room's.
func hasHistory(subject string) bool { return strings.HasPrefix(subject, subjectRoom) }

// A topic is a room or a user, as far as this node has to do with it.
type topic struct {
	subject string

	local      int       // members here, and others who want its messages
	subscribed bool      // at the broker
	opened     time.Time // since when
	refused    error     // why the broker hasn't subscribed it so far; nil: it has
	empty      time.Time // since when there is no member here
	waits      bool      // in Hub.emptied
	dirty      bool      // in work.topics

	entries []*entry  // of a room: its members, everywhere
	conns   []*member // of a user: its connections here
	raw     *raw      // those here that are no WebSockets; nil: none yet

	at       Position  // of the last message that was delivered here
	recovery *recovery // messages wait for those before them; nil: none
	holds    []*hold   // those who are to get a copy of the messages

	seeds map[origin]uint64 // see sow

	// Those who have been given all up to a position, which the others may not have been given yet.
	ahead  map[*member]Position
	change *change // what is to be told; nil: nothing
}

func (t *topic) room() bool   { return hasHistory(t.subject) }
func (t *topic) name() string { return t.subject[len(subjectRoom):] } // as long as subjectUser
func (t *topic) user() string { return t.name() }

// topic returns the topic of a subject. Who doesn't use it has to call tidy. The caller holds mu,
// as it does for all that follows.
func (h *Hub) topic(subject string) *topic {
	t := h.topics[subject]
	if t == nil {
		t = &topic{subject: subject}
		h.topics[subject] = t
	}
	return t
}

// held counts somebody here who wants a topic's messages.
func (h *Hub) held(t *topic) {
	if t.local++; t.local == 1 && !t.subscribed {
		h.soil(t)
	}
}

// released counts one out.
func (h *Hub) released(t *topic) {
	if t.local--; t.local > 0 {
		return
	}
	t.empty = time.Now()
	switch {
	case h.config.LeaveGrace < 0:
		h.soil(t)
	case t.subscribed && !t.waits:
		t.waits = true
		h.emptied = append(h.emptied, t)
	}
}

// soil has run look at a topic.
func (h *Hub) soil(t *topic) {
	if !t.dirty {
		t.dirty = true
		h.work.topics = append(h.work.topics, t)
	}
}

// expire has those topics unsubscribed that nobody here has wanted for a while.
func (h *Hub) expire(now time.Time) {
	h.emptied = slices.DeleteFunc(h.emptied, func(t *topic) bool {
		if t.local == 0 && now.Sub(t.empty) < h.config.LeaveGrace {
			return false
		}
		t.waits = false
		if t.local == 0 {
			h.soil(t)
		}
		return true
	})
}

// tidy forgets a topic that nobody has to do with any more. It may have been forgotten already, and
// another one may have its subject.
func (h *Hub) tidy(t *topic) {
	if h.topics[t.subject] == t && t.local == 0 && !t.subscribed && len(t.entries) == 0 &&
		!t.dirty && !t.waits && t.recovery == nil && t.change == nil {
		delete(h.topics, t.subject)
	}
}

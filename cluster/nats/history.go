package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// History is how JetStream keeps the messages of rooms: in one stream for all of them, whose name
// is the prefix and "_rooms". Zero fields have the defaults that their comments name. What is
// changed here is changed in the stream at the next Start; Storage can't be.
//
// Messages to rooms go to the stream, which sends them on to those who have subscribed. A message
// that it doesn't take reaches nobody; the node that published it is told (Receiver.Lost, with the
// subject). That takes nats-server 2.11 or later.
type History struct {
	MaxMessages int           // kept of each room. 100
	MaxAge      time.Duration // 10 min
	MaxBytes    int64         // kept of all rooms. 1 GiB; as much must be free where it is kept

	// Replicas is on how many servers of a cluster the messages are, 1, 3 or 5. With 1, the
	// default, rooms are silent while that server is away.
	Replicas int

	// Storage is jetstream.FileStorage, the default, or jetstream.MemoryStorage, which a cluster
	// can't be used with: its servers don't tell that such a stream has come up empty.
	Storage jetstream.StorageType
}

const (
	// kept is how the subjects begin that the stream takes, behind the prefix.
	kept = "h."

	// reserve is what headers may take of a message with a history: names of the stream and the
	// subject, and numbers.
	reserve = 512
)

var (
	errGap   = errors.New("cluster/nats: messages of the room are missing")
	errEpoch = errors.New("cluster/nats: the history was lost, or couldn't be reached for a while")
)

func (h History) complete(to *History) error {
	or(&to.MaxMessages, 100)
	or(&to.MaxAge, 10*time.Minute)
	or(&to.MaxBytes, 1<<30)
	or(&to.Replicas, 1)
	switch {
	case h.MaxMessages < 0, h.MaxAge < 0, h.MaxBytes < 0, h.Replicas < 0:
		return errors.New("a bound of Config.History is negative")
	case h.Storage != jetstream.FileStorage && h.Storage != jetstream.MemoryStorage:
		return errors.New("Config.History.Storage is neither file nor memory")
	}
	return nil
}

// wanted returns how the stream has to be.
func (b *Broker) wanted() jetstream.StreamConfig {
	h := b.config.History
	rooms := b.prefix + kept + rooms + ">"
	return jetstream.StreamConfig{
		Name:              b.stream,
		Description:       "Messages of rooms, of package cluster/nats of Whorl",
		Subjects:          []string{rooms},
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		MaxMsgsPerSubject: int64(h.MaxMessages),
		MaxAge:            h.MaxAge,
		MaxBytes:          h.MaxBytes,
		Replicas:          h.Replicas,
		Storage:           h.Storage,
		AllowDirect:       true,
		RePublish: &jetstream.RePublish{
			Source:      rooms,
			Destination: b.prefix + strings.TrimPrefix(rooms, b.prefix+kept),
		},
	}
}

// ensure makes the stream, or brings it up to date, and returns its epoch.
func (b *Broker) ensure(ctx context.Context, l *link) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, b.config.ConnectTimeout)
	defer cancel()
	if v := l.nc.ConnectedServerVersion(); !recent(v) {
		return "", fmt.Errorf("a history takes nats-server 2.11 or later, not %s", v)
	}
	if b.config.History.Storage == jetstream.MemoryStorage && l.nc.ConnectedClusterName() != "" {
		return "", errors.New("a history in memory isn't possible in a cluster of servers")
	}
	js, err := jetstream.New(l.nc)
	if err != nil {
		return "", err
	}
	stream, err := js.Stream(ctx, b.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = js.CreateStream(ctx, b.wanted())
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another node was faster
			stream, err = js.Stream(ctx, b.stream)
		}
	}
	if err != nil {
		return "", fmt.Errorf("JetStream: %w", err)
	}
	info := stream.CachedInfo()
	config, differs := b.merge(info.Config)
	if differs != "" {
		return "", fmt.Errorf("the stream %q is there already, but %s", b.stream, differs)
	}
	if config != nil {
		b.config.Logger.Info("changing the bounds of the history", zap.String("stream", b.stream))
		if stream, err = js.UpdateStream(ctx, *config); err != nil {
			return "", fmt.Errorf("the stream %q can't be brought up to date: %w", b.stream, err)
		}
		info = stream.CachedInfo()
	}
	return epochOf(info.Created), nil
}

// merge returns the settings that a stream needs, nil if it has them, or what can't be changed.
func (b *Broker) merge(have jetstream.StreamConfig) (*jetstream.StreamConfig, string) {
	want := b.wanted()
	switch r := have.RePublish; {
	case !slices.Equal(have.Subjects, want.Subjects):
		return nil, fmt.Sprintf("takes %q and not %q", have.Subjects, want.Subjects)
	case r == nil || *r != *want.RePublish:
		return nil, fmt.Sprintf("doesn't send on to %q", want.RePublish.Destination)
	case have.Storage != want.Storage:
		return nil, fmt.Sprintf("is stored as %v and not as %v", have.Storage, want.Storage)
	case have.Retention != want.Retention:
		return nil, fmt.Sprintf("has the retention %v and not %v", have.Retention, want.Retention)
	case have.Mirror != nil || len(have.Sources) > 0 || have.SubjectTransform != nil:
		return nil, "has messages of other streams, or other subjects"
	case have.NoAck || have.Sealed:
		return nil, "doesn't say which messages it takes, or takes none"
	}
	if have.MaxMsgsPerSubject == want.MaxMsgsPerSubject && have.MaxAge == want.MaxAge &&
		have.MaxBytes == want.MaxBytes && have.Replicas == want.Replicas &&
		have.Discard == want.Discard && have.AllowDirect {
		return nil, ""
	}
	have.MaxMsgsPerSubject, have.MaxAge, have.MaxBytes = want.MaxMsgsPerSubject, want.MaxAge,
		want.MaxBytes
	have.Replicas, have.Discard, have.AllowDirect = want.Replicas, want.Discard, true
	have.Duplicates = min(have.Duplicates, want.MaxAge)
	return &have, ""
}

// epochOf names a stream: a stream that is made anew has another time.
func epochOf(created time.Time) string { return strconv.FormatInt(created.UnixNano(), 36) }

// recent tells whether a server can answer with many messages at once, and sends on their times.
func recent(version string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 2 || major == 2 && minor >= 11
}

// look finds out whether the history is still the same, and says so if it isn't.
func (b *Broker) look(ctx context.Context, l *link) {
	epoch, err := "", error(nil)
	if b.stream != "" {
		epoch, err = b.ensure(ctx, l)
	}
	if err != nil {
		if ctx.Err() == nil {
			b.config.Logger.Error("the history can't be used", zap.Error(err))
		}
		b.doubt()
		return
	}
	b.mu.Lock()
	same := b.known.epoch == epoch
	b.mu.Unlock()
	if !same {
		b.config.Logger.Warn("the history has begun anew", zap.String("stream", b.stream))
		b.queue.put(entry{epoch: &epoch, lost: errEpoch})
	}
}

// answer takes what the stream answers to a message of ours: that it wasn't kept, and has reached
// nobody.
func (b *Broker) answer(subject string, m *natsgo.Msg) (entry, bool) {
	var why error
	if m.Header.Get("Status") != "" {
		why = errors.New("cluster/nats: no stream takes messages of rooms")
	} else {
		var reply struct {
			Error *jetstream.APIError `json:"error"`
		}
		if err := json.Unmarshal(m.Data, &reply); err != nil || checkSubject(subject) != nil {
			b.invalid.Add(1)
			return entry{}, false
		} else if reply.Error == nil {
			return entry{}, false
		}
		why = fmt.Errorf("cluster/nats: the message wasn't kept: %w", reply.Error)
	}
	b.rejected.Add(1)
	b.doubt()
	return entry{subject: subject, lost: why}, true
}

// A stamp is what the stream writes on a message that it sends on.
type stamp struct {
	offset uint64 // in the stream, of all rooms; 0 if there is no stamp
	last   uint64 // the one of the same subject before, 0 if that isn't kept any more
	time   int64
}

func parseStamp(h natsgo.Header) (s stamp, ok bool) {
	t, err := time.Parse(time.RFC3339Nano, h.Get("Nats-Time-Stamp"))
	if err != nil {
		return s, false
	}
	s.time = t.UnixNano()
	if s.offset, ok = number(h, "Nats-Sequence"); !ok || s.offset == 0 {
		return s, false
	}
	s.last, ok = number(h, "Nats-Last-Sequence")
	return s, ok && s.last < s.offset
}

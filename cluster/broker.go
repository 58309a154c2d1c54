package cluster

import (
	"context"
	"errors"
	"time"
)

// A Broker carries messages between the nodes of a cluster: [Memory], or one of package
// cluster/nats. It is used by one Hub, which makes all calls but Since from one goroutine.
//
// What one Broker publishes arrives in that order, on all subjects of rooms together and on all
// others together, at every Broker that has subscribed, the same one included; at most once. Where
// something may have been lost, the Broker says so (Receiver.Lost). A Broker that also is a
// [History] keeps messages of rooms.
//
// Subjects are names with dots between them, as NATS has them, without wildcards: "nodes",
// "node.<name>", "room.<name>", "user.<name>", where a name may have dots, too. They are case
// sensitive, have up to MaxSubject bytes of UTF-8, and no white space.
type Broker interface {
	// Start connects. From then on, until Close, it calls r. It may wait until ctx is done.
	Start(ctx context.Context, r Receiver) error

	// Subscribe has messages of a subject arrive, Unsubscribe ends that. A Subscribe that is behind
	// an Unsubscribe of the same subject, or before one, is no error. They don't wait for the
	// broker's answer. What a reconnection needs to subscribe again, the Broker knows itself.
	Subscribe(subject string) error
	Unsubscribe(subject string) error

	// Publish sends a message, which may be used again when it returns. It doesn't wait for the
	// broker's answer, and keeps nothing for a time without a connection: the error is
	// ErrDisconnected then.
	Publish(subject string, message []byte) error

	// MaxMessage returns how many bytes a message may have.
	MaxMessage() int

	// Close ends the connection. What was published before is sent first, for as long as ctx lasts.
	Close(ctx context.Context) error
}

// A Receiver is what a Broker calls. One call at a time; the methods don't wait, and don't call the
// Broker.
type Receiver interface {
	// Receive takes a message, which the Broker must not change afterwards. at is its position, if
	// the Broker keeps a History of the subject; else it is zero.
	Receive(subject string, message []byte, at Position)

	// Lost says that messages of a subject, all if it is "", may have been lost, and why: the
	// Broker was reconnected, or the program takes less than it is sent, or the Broker has refused
	// something that it was to publish.
	Lost(subject string, why error)
}

// A History is a Broker that keeps messages of subjects which begin with "room.".
type History interface {
	Broker

	// Since returns the messages of a subject behind a position, oldest first, and no more than
	// limit. top is the position of the newest message there is, which is since itself if there is
	// none behind it, and zero if the Broker is configured to keep none. With since.Epoch "" it
	// returns only top.
	//
	// The error is ErrUnrecoverable if the epoch has changed, messages behind since aren't kept any
	// more, or there are more than limit; top is valid then, too. It may be called from any
	// goroutine.
	Since(ctx context.Context, subject string, since Position, limit int) (
		stored []Stored, top Position, err error)
}

// A Position is a place in the history of a room. A client that keeps the position of the last
// message it has got can ask for what came behind it.
type Position struct {
	Offset uint64 `json:"offset"` // greater than that of all earlier messages of the subject
	Epoch  string `json:"epoch"`  // changes when the history was lost; "" = there is no history
}

// Stored is a message of a History.
type Stored struct {
	At      Position
	Time    time.Time // when it was kept
	Message []byte
}

// MaxSubject is how many bytes a subject may have.
const MaxSubject = MaxName + 16

var (
	// ErrDisconnected is returned while there is no connection to the broker.
	ErrDisconnected = errors.New("cluster: not connected to the broker")

	// ErrUnrecoverable is returned when a client can't be given all that came behind its position.
	ErrUnrecoverable = errors.New("cluster: messages behind the position are not kept any more")

	// ErrSlow is why messages are lost that the program didn't take in time.
	ErrSlow = errors.New("cluster: messages came faster than they were taken")

	// ErrReconnected is why messages may be lost that came while there was no connection.
	ErrReconnected = errors.New("cluster: the connection to the broker was lost for a while")
)

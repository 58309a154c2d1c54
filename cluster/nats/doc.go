// Package nats connects the nodes of a cluster (package cluster) through NATS: a Broker, with a
// History on JetStream if it is asked for, and a server within the process for development.
//
//	broker, err := nats.Connect("tls://nats-1:4222,tls://nats-2:4222", nats.Config{
//		Credentials: "/etc/chat/chat.creds",
//		CA:          "/etc/chat/ca.pem",
//		History:     &nats.History{Replicas: 3},
//	})
//
// or, on one machine:
//
//	server, err := nats.Embedded(nats.EmbeddedConfig{})
//	broker, err := server.Connect(nats.Config{})
//
// It is a module of its own, as nats-server is large.
//
// # What is guaranteed
//
// Messages arrive at most once, and those of one Broker in the order in which it has published
// them: on all subjects together; with a History, on all rooms together and on all others together,
// as rooms go through a stream.
//
// The Receiver is told where messages may be missing (Lost), between the last message that was
// received before and the first one behind:
//   - of all subjects, cluster.ErrReconnected, after a connection was lost. It is said when the
//     server knows the subscriptions again: whoever then asks for the history misses nothing.
//   - of a subject, cluster.ErrSlow, when the Receiver has taken less than was sent for longer than
//     Config.QueueMessages or QueueBytes have room for.
//   - of a room with a History, when the numbers that the stream writes on messages show it. They
//     can't if all that is missing has been dropped by age before the next message of the room.
//   - of all subjects, when the History was lost or made anew; positions have another Epoch then.
//   - of a subject, when the server or the stream has refused what this Broker published to it.
//
// The last is told to the one who published only, as nobody else can know. So is it when the
// connection of the one who publishes is lost: what it has published just before may not have been
// sent, and nodes on other servers don't hear of it. Publish returns before the server has the
// message.
//
// Nothing is kept while there is no connection (cluster.ErrDisconnected), and nothing is sent
// again. A server that stands still doesn't hold up Publish, Subscribe or Stats: up to
// Config.MaxPending bytes wait for it, and it is left when it answers no PING, or takes nothing for
// Config.WriteTimeout. A server that goes on after a time still has what was sent to it before. The
// Broker waits for it to have read that, for a second if it is connected to another server now: if
// that isn't enough, those messages come late, behind newer ones.
//
// In a cluster of servers a subscription takes some milliseconds to be known to all of them; nobody
// says when. After a connection was made again, the Broker waits for 100 ms before it says so.
//
// # Subjects
//
// All begin with Config.Prefix. A message to the subject S is published to "whorl.S", or with a
// History, if S begins with "room.", to "whorl.h.S". The stream "whorl_rooms" keeps those and sends
// them on to "whorl.S". All nodes must agree on whether there is a History.
//
// # A NATS of one's own
//
// One server for development and tests:
//
//	nats-server -a 127.0.0.1 --auth s3cret
//
// For production, three servers with a configuration such as this:
//
//	server_name: nats-1
//	listen: 0.0.0.0:4222
//	max_payload: 1MB              # MaxMessage, less 512 bytes with a History
//	max_pending: 64MB             # of a client that takes less than it is sent
//	write_deadline: 10s
//	tls { cert_file: "server.pem", key_file: "server.key", ca_file: "ca.pem" }
//	cluster {
//	  name: chat, listen: 0.0.0.0:6222
//	  routes: ["nats://nats-2:6222", "nats://nats-3:6222"]
//	  tls { cert_file: "server.pem", key_file: "server.key", ca_file: "ca.pem" }
//	}
//	jetstream { store_dir: "/var/lib/nats", max_file_store: 10GB, max_memory_store: 1GB }
//	accounts {
//	  CHAT {
//	    jetstream: enabled
//	    users: [ { user: chat, password: "$2a$11$…", permissions: {
//	      publish:   ["whorl.>", "$JS.API.INFO", "$JS.API.STREAM.*.whorl_rooms",
//	                  "$JS.API.STREAM.MSG.GET.whorl_rooms", "$JS.API.DIRECT.GET.whorl_rooms"]
//	      subscribe: ["whorl.>", "_INBOX.>"] } } ]
//	  }
//	}
//
// An account, or a user with permissions for one prefix, keeps other programs away from these
// subjects: what is published to them is believed. In place of users there may be a token
// (authorization { token: … }, Config.Token), nkeys (Config.NKey) or JWTs (Config.Credentials).
//
// With History.Replicas 3 a server may fail. With 1 rooms are silent while the one server that has
// the stream is away. A machine that loses its power may lose what JetStream hasn't synced to its
// disk (sync_interval, two minutes; "always" is slow): with one replica, the stream then goes on
// with numbers that were given before, in the same epoch. Replicas on other machines prevent that.
package nats

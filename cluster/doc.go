// Package cluster is rooms over many nodes: push, broadcast and presence for programs that outgrow
// one machine, on a message broker that is there already.
//
//	hub := cluster.New(cluster.Config{
//		Broker: cluster.Memory(), // or nats.Connect of cluster/nats
//	})
//	hub.Start(ctx)
//	hub.Bind(conn, "ann")
//	hub.Join(conn, "lobby", nil)
//	hub.Broadcast(ctx, "lobby", websocket.Message{Opcode: websocket.Text, Data: data})
//	hub.ToUser(ctx, "ann", message)
//	members, err := hub.Members(ctx, "lobby")
//
// A [Hub] is a node's part of it. Its members are connections of any WebSocket server of the
// process, by package websocket or by its Upgrade in net/http, and those of package server. A
// [Broker] carries what nodes say to each other; with [Memory], the default, there is one node, and
// a program that is written for it runs on many with another Broker.
//
// # How messages go
//
// All messages go through the Broker, those for members of the same node, too: so all have one
// order. A node listens to a room at the Broker as long as it has members of it (and for
// Config.LeaveGrace), and to a user likewise; nodes without get nothing. A message is encoded and
// compressed once for each node, and each loop with members is woken once.
//
// # What is guaranteed
//
//   - A message comes at most once.
//   - What one node broadcasts to one room comes in that order at every member. Messages of
//     different nodes may come in different orders at different nodes, unless the Broker has one
//     order for all (JetStream has).
//   - What is broadcast to a room, and doesn't come to the members on a node, is told to
//     Config.OnGap there, never silently lost: whatever the Broker, a connection to it, a slow node
//     or one that has crashed has to do with it. A gap may be told where nothing was lost. It is
//     known when the next message has come, or within three heartbeats, or, where a node is cut
//     off, within Config.NodeTimeout and when it is heard again. Two moments are not covered: until
//     a node listens to a room, for which the Broker is given up to two heartbeats after the first
//     Join, what is broadcast elsewhere isn't for it yet; and what the queue of a single connection
//     can't take is that connection's affair (websocket.Options.OnSlow).
//   - With a [History], what was lost is fetched and delivered in order, and only what can't be is
//     a gap. [Hub.JoinSince] does the same for a client that comes back.
//
// # Presence
//
// Each node owns its members. It tells all others who comes and goes, under numbers without a hole,
// and lives by its heartbeats; who misses a number, or is new, asks for everything. So each node
// knows the members of all rooms, and [Hub.Members] asks nobody. A node that is silent for
// Config.NodeTimeout has no members any more, until it is heard again; after a crash nobody stays.
// A node that ends in order is gone at once ([Hub.Close]), or hands its members over
// ([Hub.HandOver]).
//
// Who shows its members who is there, sends the list from within Config.OnPresence, to those who
// have joined ([Hub.Conn]), and the changes to the others ([Hub.BroadcastHere]): so each is told
// all, in order. A list that is taken elsewhere may be overtaken by what OnPresence is told.
//
// # Trust
//
// Whoever may publish at the Broker is a node: it can broadcast and disconnect as it likes. But its
// bytes aren't trusted to be in order: what can't be read, or is larger than its bound, is dropped
// and counted (Stats.Rejected).
package cluster

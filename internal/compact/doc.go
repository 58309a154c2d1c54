// Package compact keeps a TLS 1.3 connection in a few hundred bytes once its handshake is over.
//
// # Theory of operation
//
// After a handshake, crypto/tls goes on to hold what it needed for it: buffers for records and
// handshake messages, expanded keys, certificates, 6 to 7 KB for each connection. A connection that
// is quiet needs little of that: for each direction the traffic secret, from which the key, the IV
// and the next secret come (RFC 8446, sections 7.1 to 7.3), and the number of the next record
// (section 5.3). That is a [State]. (The key and the IV are kept beside the secret: they are short,
// and take longer to make than the key takes to be expanded.)
//
// The handshake itself is crypto/tls's, untouched. Three things are learnt beside it:
//
//   - The two application traffic secrets, from Config.KeyLogWriter. It is one writer for all
//     connections of a configuration ([Config]); the line says whose secret it is by the client
//     random, which is in the ClientHello that the connection has sent or received ([Capture]).
//     A peer can send another connection's random, so a Capture whose secrets were told twice is
//     given up, and so is one whose random couldn't be seen for certain.
//   - How many records were sent under the application keys. crypto/tls may send some before the
//     handshake returns (a server's session tickets), mixed with records under the handshake keys.
//     So the last record of each write during the handshake is tried with the application key:
//     the number by which it opens is its number ([Capture.Sent]).
//   - How many records were received under them. crypto/tls is handed no more than one record at
//     a time, so none of them is received before the handshake returns, and from then on they
//     are counted. A record that brings crypto/tls nothing to read was a message of the
//     handshake protocol; one of these may be a KeyUpdate, after which the secret is another
//     one. It is looked at ([Capture.Received]).
//
// When crypto/tls has no part of a record, the State takes over, and crypto/tls's connection is
// dropped. What it has decrypted and nobody has read yet goes along.
//
// # What is relied on
//
//   - The lines of Config.KeyLogWriter are as NSS writes them, and come before the connection
//     sends anything under the secrets: crypto/tls documents the first. If either ever changes,
//     the first record that is sent or received after the handshake shows it: it is tried with
//     the secret and the number, and if it doesn't open the connection stays with crypto/tls.
//   - crypto/tls sends and receives whole records, each numbered by one more than the one before.
//
// # What a State does
//
// It opens and seals records of the three suites of TLS 1.3; it answers a KeyUpdate, and sends its own
// long before a key has sealed as much as it may (section 5.5); it tells close_notify, alerts and
// truncation apart; it drops session tickets that come late. Whatever a peer must not send is
// answered with the alert that the RFC names. The expanded keys are made when they are needed and
// dropped when the caller says so ([State.Rest]). A record is opened into the caller's buffer if it
// fits, and sealed in the queue that it is sent from; what is sent at one time shares a record
// ([State.Gather]).
package compact

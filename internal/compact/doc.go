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
// It opens and seals records of the three suites of TLS 1.3; it answers a KeyUpdate, and sends its
// own long before a key has sealed as much as it may (section 5.5); it tells close_notify, alerts
// and truncation apart; it drops session tickets that come late. Whatever a peer must not send is
// answered with the alert that the RFC names. A record is opened where the reader wants what it
// carries, if that has room ([Opened]). The expanded keys are made when they are needed and
// dropped when the caller says so ([State.Rest]). Small packets that are sent one after the other
// share a record, if the caller puts them into one ([State.Put]) and seals it when the kernel is to
// get it ([State.Seal]).
//
// Otherwise it does what crypto/tls does, byte by byte, which TestTwin shows, but for these, where
// the RFC says otherwise: a change_cipher_spec behind the handshake is refused, the version of a
// record is only what has been authenticated, a KeyUpdate with another value than 0 or 1 is
// illegal_parameter, an unexpected message is unexpected_message whatever is in it, an alert that
// is not two bytes long is decode_error, and nothing is sent behind close_notify, alerts and
// answers to a KeyUpdate included.
//
// # What it could do, and why it doesn't
//
//   - The expanded keys are the connection's while it is busy, and in no cache that is shared. A
//     cache with a bound would expand them again for each packet as soon as more connections are
//     busy than it holds. What bounds them here is that they go when the connection has been quiet.
//   - A configuration that Config.GetConfigForClient chooses is copied for each handshake. A copy
//     that was kept wouldn't learn that the keys for session tickets have changed in the one that
//     was chosen. All other configurations are copied once.
//   - After a KeyUpdate that crypto/tls has seen, the connection stays with it. That is rare: keys
//     last longer than it takes until the State takes over.
package compact

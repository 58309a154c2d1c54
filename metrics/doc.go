// Package metrics shows the figures of servers and runtimes to Prometheus.
//
//	prometheus.MustRegister(
//		metrics.NewCollector(smtp, prometheus.Labels{"server": "smtp"}),
//		metrics.NewCollector(echo, prometheus.Labels{"server": "echo"}),
//		metrics.NewRuntimeCollector(rt, nil), // runtime.From(ctx) tells which
//		metrics.NewClusterCollector(hub, nil),
//	)
//	http.Handle("/metrics", promhttp.Handler())
//
// It is a package of its own so that servers without it do without its dependencies. It counts
// nothing itself: a scrape reads the counters that server.Server, runtime.Runtime, eventloop.Loop
// and cluster.Hub keep anyway, which takes microseconds, waits for no loop and holds none up.
//
// # Of a server
//
//	whorl_server_connections                         gauge    connections now, those that don't stand yet and those that linger included
//	whorl_server_connections_opening                 gauge    that don't stand yet: a proxy's header or the TLS handshake is due
//	whorl_server_connections_accepted_total          counter  begun
//	whorl_server_connections_opened_total            counter  that came to stand
//	whorl_server_connections_closed_total            counter  ended, those that never came to stand included
//	whorl_server_connections_lingering               gauge    that have ended and still deliver what was sent
//	whorl_server_connections_cut_total               counter  that were reset after their end, as their clients took too little
//	whorl_server_connections_refused_total           counter  by Config.MaxConnections and Config.MaxPerAddress
//	whorl_server_handshakes_total{outcome}           counter  TLS handshakes that have ended: "ok", or why not
//	whorl_server_handshakes_running                  gauge    under way
//	whorl_server_handshakes_waiting                  gauge    connections that wait for one of Config.MaxHandshakes
//	whorl_server_received_packets_total              counter  without framing, reads
//	whorl_server_received_bytes_total                counter  in packets, after decryption
//	whorl_server_received_datagrams_total            counter  on "udp" and "unixgram"
//	whorl_server_sent_packets_total                  counter  calls of Send
//	whorl_server_sent_bytes_total                    counter  before encryption
//	whorl_server_output_queues_full                  gauge    connections with more than Port.HighWater queued for a client that takes too little
//	whorl_server_output_queued_bytes                 gauge    sent, and not taken yet by clients that take less than they are sent
//	whorl_server_loop_lag_seconds                    gauge    how late the last timer of the latest loop was
//
// # Of a runtime
//
//	whorl_runtime_coroutines                         gauge    that have not ended, nearly all of them parked
//	whorl_runtime_coroutines_started_total           counter
//	whorl_runtime_workers                            gauge    goroutines that coroutines run on, idle ones included
//	whorl_tls_compact_connections                    gauge    connections of the process that are kept compactly
//	whorl_tls_not_compact_total{reason}              counter  those that were to become so and stay with crypto/tls, see socket.NotCompact
//	whorl_tls_late_tickets_total                     counter  session tickets that these have dropped
//	whorl_runtime_await_goroutines                   gauge    goroutines of runtime.Await, idle ones included
//	whorl_loop_iterations_total{loop}                counter  polls
//	whorl_loop_sleeps_total{loop}                    counter  polls that were allowed to wait; the others had work left
//	whorl_loop_wakeups_total{loop}                   counter  by posts from elsewhere
//	whorl_loop_events_total{loop}                    counter  descriptors that polls have reported ready
//	whorl_loop_posted_total{loop}                    counter  posted tasks that were run
//	whorl_loop_timers_fired_total{loop}              counter
//	whorl_loop_deferred_total{loop}                  counter  deferred functions that were run
//	whorl_loop_panics_total{loop}                    counter  caught in functions of the loop
//	whorl_loop_stalls_total{loop}                    counter  reports of the watchdog: something has held the loop for too long
//	whorl_loop_timers{loop}                          gauge    set
//	whorl_loop_descriptors{loop}                     gauge    registered
//
// # Of a cluster.Hub
//
//	whorl_cluster_nodes                              gauge    that live, this one included
//	whorl_cluster_rooms                              gauge    with members on any node
//	whorl_cluster_members                            gauge    connections of this node with a user or in a room
//	whorl_cluster_subscriptions                      gauge    rooms and users that this node listens to
//	whorl_cluster_queued_bytes                       gauge    that wait for the broker
//	whorl_cluster_published_total                    counter  messages that the broker has taken
//	whorl_cluster_unsent_total                       counter  that it hasn't: for each there is a gap
//	whorl_cluster_refused_total                      counter  refused with socket.ErrQueueFull
//	whorl_cluster_received_total                     counter  from the broker, heartbeats included
//	whorl_cluster_delivered_total                    counter  on their way to a member, for each member
//	whorl_cluster_dropped_total                      counter  not sent to a member, as its loop was behind
//	whorl_cluster_late_total                         counter  that came again or too late, and were dropped
//	whorl_cluster_rejected_total                     counter  that could not be read
//	whorl_cluster_recovered_total                    counter  fetched from the history
//	whorl_cluster_gaps_total                         counter  times that messages to a room or a user may be lost
//
// # What to look at
//
// A loop that is full: whorl_server_loop_lag_seconds stays above a few milliseconds. A call that
// should have gone through runtime.Await: whorl_loop_stalls_total grows. Clients that are slower
// than what they are sent: whorl_server_output_queues_full. Certificates that clients refuse, or
// somebody who tries: whorl_server_handshakes_total with another outcome than "ok". A broker, or a
// way to it, that loses messages: whorl_cluster_gaps_total grows.
package metrics

package nats_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/whorl-go/whorl/cluster/brokertest"
	"github.com/whorl-go/whorl/cluster/nats"
)

func TestFiguresAreShownToPrometheus(t *testing.T) {
	s := embed(t, nats.EmbeddedConfig{})
	b, err := s.Connect(nats.Config{})
	check(t, err)
	n := brokertest.Start(t, b)
	check(t, n.Subscribe("room.a"))
	n.Say("room.a", "hello")
	until(t, "it is received", func() bool { return b.Stats().MessagesIn == 1 })
	c := nats.NewCollector(b, prometheus.Labels{"node": "1"})
	problems, err := testutil.CollectAndLint(c)
	if check(t, err); len(problems) > 0 {
		t.Error(problems)
	}
	if err := testutil.CollectAndCompare(c, strings.NewReader(`
# HELP whorl_nats_connected 1 if there is a connection.
# TYPE whorl_nats_connected gauge
whorl_nats_connected{node="1"} 1
# HELP whorl_nats_received_bytes_total Bytes that the program has taken.
# TYPE whorl_nats_received_bytes_total counter
whorl_nats_received_bytes_total{node="1"} 5
`), "whorl_nats_connected", "whorl_nats_received_bytes_total"); err != nil {
		t.Error(err)
	}
}

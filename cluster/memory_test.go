package cluster_test

import (
	"testing"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/cluster/brokertest"
)

// Memory does what a Broker has to do, with a history and without.
func TestMemory(t *testing.T) {
	for name, history := range map[string]cluster.MemoryHistory{
		"without a history": {}, "with a history": {Messages: 10_000, Bytes: 64 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Test(t, func(*testing.T) []cluster.Broker {
				bus := cluster.MemoryWith(history)
				return []cluster.Broker{bus, bus.Peer(), bus.Peer()}
			})
		})
	}
}

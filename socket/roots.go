package socket

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"sync"
	"sync/atomic"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

// systemRoots are the certificates that the system trusts. Package crypto/x509 reads and parses
// them when they are wanted for the first time, and keeps them; that takes long enough to be
// noticed by all the coroutines of a loop, so it is done before, elsewhere.
//
// Its errors are for whoever verifies.
var systemRoots = roots{load: func() { x509.SystemCertPool() }}

type roots struct {
	loaded  atomic.Bool
	mu      sync.Mutex
	loading *runtime.WaitGroup // guarded by mu; nil before the first wait

	load func() // tests set it
}

// wait waits until the roots are there.
func (r *roots) wait(ctx context.Context, deadline sched.Deadline) error {
	if r.loaded.Load() {
		return nil
	}
	r.mu.Lock()
	loading := r.loading
	if loading == nil {
		loading = new(runtime.WaitGroup)
		loading.Add(1)
		r.loading = loading
		go func() {
			defer loading.Done()
			r.load()
			r.loaded.Store(true)
		}()
	}
	r.mu.Unlock()
	return waitUntil(ctx, loading, deadline)
}

// verifiesBySystem reports whether a handshake may want the system's roots: that is so where none
// are named, unless nothing is verified. A function of the program's may verify on its own.
func verifiesBySystem(config *tls.Config, server bool) bool {
	switch {
	case config == nil:
		return !server
	case server:
		return config.ClientCAs == nil && config.ClientAuth >= tls.VerifyClientCertIfGiven
	case config.RootCAs != nil:
		return false
	}
	return !config.InsecureSkipVerify ||
		config.VerifyConnection != nil || config.VerifyPeerCertificate != nil
}

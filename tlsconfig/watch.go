package tlsconfig

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

const (
	defaultInterval = time.Minute

	// What is left of a certificate's time when Watch begins to warn: or a third and a ninth of all
	// its time, if that is less.
	soon     = 21 * 24 * time.Hour
	verySoon = 7 * 24 * time.Hour

	repeat = 24 * time.Hour // between two warnings of one certificate
)

// WatchOptions are about Server.Watch.
type WatchOptions struct {
	Interval time.Duration // between two looks at the files; default: a minute
	Logger   *zap.Logger   // nil: nothing is logged
	// Each value makes Watch look at once; may be nil. For signal.Notify(c, syscall.SIGHUP).
	Signals <-chan os.Signal
}

// Watch keeps the server up to date until ctx is done, and returns then. It is for a goroutine of
// its own, off the event loops; one for a Server is enough.
//
//   - It reloads files that have changed. What is wrong with them is logged once for each change,
//     not at every look; see Reload.
//   - It changes the keys of the session tickets in time. (Handshakes do that too. Without either
//     an idle server keeps its old key.)
//   - It warns once a day of certificates that will run out: from 21 days before on, once more at 7
//     days, and as an error when it has happened. Where all of a certificate's time is less than 63
//     days, these are a third and a ninth of it.
func (s *Server) Watch(ctx context.Context, options WatchOptions) {
	logger := options.Logger
	if logger == nil {
		logger = zap.NewNop()
	}
	w := watcher{server: s, logger: logger}
	w.logWarnings()
	ticker := time.NewTicker(max(cmp.Or(options.Interval, defaultInterval), time.Millisecond))
	defer ticker.Stop()
	signals := options.Signals
	for {
		w.look()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case _, open := <-signals:
			if !open {
				signals = nil
			}
			w.failed = failure{} // whoever asks for it wants an answer
		}
	}
}

// A watcher remembers what it has said already.
type watcher struct {
	server *Server
	logger *zap.Logger
	failed failure
	said   map[[sha256.Size]byte]notice
}

// A failure tells apart the mistakes that a reload finds. Their texts won't do: how long ago a
// certificate has ended is in them.
type failure struct {
	digest [sha256.Size]byte
	reason explain.Reason
	file   string
}

type notice struct {
	level zapcore.Level
	stage time.Duration
	at    time.Time
}

// look does all that is due.
func (w *watcher) look() {
	changed, digest, err := w.server.reload()
	if err != nil {
		w.failure(digest, err)
	} else {
		if w.failed != (failure{}) {
			w.logger.Info("TLS certificates are in order again")
			w.failed = failure{}
		}
		if changed {
			w.logger.Info("TLS certificates reloaded", zap.Int("certificates", len(w.server.Certificates())))
			w.logWarnings()
		}
	}
	w.server.rotate()
	w.expiry()
}

func (w *watcher) failure(digest [sha256.Size]byte, err error) {
	f := failure{digest: digest}
	if e, ok := errors.AsType[*CertificateError](err); ok {
		f.reason, f.file = e.Reason, e.File
	}
	if f == w.failed {
		return
	}
	w.failed = f
	w.logger.Error(
		"TLS certificates not reloaded: those in use stay in use",
		zap.String("reason", string(f.reason)),
		zap.Error(err),
	)
}

func (w *watcher) logWarnings() {
	for _, warning := range w.server.Warnings() {
		w.logger.Warn(
			"TLS certificate that some clients may refuse",
			zap.String("reason", string(warning.Reason)),
			zap.Error(warning),
		)
	}
}

// expiry warns of certificates that have run out or soon will.
func (w *watcher) expiry() {
	now := w.server.now()
	said := make(map[[sha256.Size]byte]notice)
	state := w.server.state.Load()
	for i, cert := range state.certs {
		id := sha256.Sum256(cert.Leaf.Raw)
		n, due := stageOf(cert, now)
		if !due {
			continue
		}
		if last, known := w.said[id]; known && last.stage == n.stage && now.Sub(last.at) < repeat {
			n = last
		} else if _, twice := said[id]; !twice {
			message := "TLS certificate runs out soon"
			if n.stage == 0 {
				message = "TLS certificate has run out"
			}
			w.logger.Log(n.level, message, zap.String("file", w.server.options.Certificates[i].label(i)), zap.String("name", text.CertName(cert.Leaf)),
				zap.Time("notAfter", cert.Leaf.NotAfter), zap.Int("daysLeft", int(cert.Leaf.NotAfter.Sub(now)/(24*time.Hour))))
		}
		said[id] = n
	}
	w.said = said
}

// stageOf returns how urgent it is to renew a certificate, if it is.
func stageOf(cert *tls.Certificate, now time.Time) (notice, bool) {
	left, whole := cert.Leaf.NotAfter.Sub(now), cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)
	first, second := min(soon, whole/3), min(verySoon, whole/9)
	switch {
	case left < 0:
		return notice{zapcore.ErrorLevel, 0, now}, true
	case left <= second:
		return notice{zapcore.WarnLevel, second, now}, true
	case left <= first:
		return notice{zapcore.WarnLevel, first, now}, true
	}
	return notice{}, false
}

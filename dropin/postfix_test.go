//go:build linux && interop

package dropin

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/dropin/internal/servers"
)

// Postfix takes what net/smtp and go-mail send it over the Dialer, by STARTTLS and with TLS from the first byte on.
func TestPostfix(t *testing.T) {
	s := servers.StartPostfix(t)
	trust := func() *tls.Config { return s.TLS.Clone() }
	box := func() string {
		content, _ := os.ReadFile(filepath.Join(s.Dir, "mail", "bob"))
		return string(content)
	}
	for name, addr := range map[string]string{"STARTTLS": s.Addr, "TLS": s.TLSAddr} {
		t.Run(name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				wrapped := name == "TLS"
				subject := func(library string, i int) string { return fmt.Sprintf("<%s/%s/%d>", t.Name(), library, i) }
				check(t, many(ctx, 3, func(ctx context.Context, i int) error {
					c, err := dialMail(ctx, addr, wrapped, trust())
					if err != nil {
						return err
					}
					defer c.Close()
					if err := sendMail(c, subject("smtp", i)); err != nil {
						return err
					}
					if err := c.Quit(); err != nil {
						return err
					}
					return sendByGoMail(ctx, addr, wrapped, trust(), subject("go-mail", i))
				}))
				awaitUntil(ctx, t, "all mails are in the mailbox", func() bool {
					got := box()
					for i := range 3 {
						for _, library := range []string{"smtp", "go-mail"} {
							if !strings.Contains(got, subject(library, i)) {
								return false
							}
						}
					}
					return true
				})
			})
		})
	}
}

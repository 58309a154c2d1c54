//go:build linux && interop

package dropin

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/servers"
)

// Postfix takes what net/smtp and go-mail send it over the Dialer, by STARTTLS and with TLS from
// the first byte on.
func TestPostfix(t *testing.T) {
	p := servers.NewPostfix(t, "")
	addrs := p.Start("", "-o smtpd_tls_wrappermode=yes")
	trust := func() *tls.Config { return &tls.Config{RootCAs: p.CA.Pool(), ServerName: "localhost"} }
	for name, addr := range map[string]string{"STARTTLS": addrs[0], "TLS": addrs[1]} {
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
					got := p.Mailbox()
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

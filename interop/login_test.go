//go:build interop

package interop

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/servers"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/smtp"
)

// Logins at Postfix, whose mechanisms are Cyrus SASL's.
func TestLoginAtPostfix(t *testing.T) {
	p := servers.NewPostfix(t, `
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_local_domain = mail.test
`)
	passwd := exec.Command(servers.Find(t, "saslpasswd2"), "-p", "-c", "-f", p.Path("data/sasldb"), "-u", "mail.test", "alice")
	passwd.Stdin = strings.NewReader(password)
	if out, err := passwd.CombinedOutput(); err != nil {
		t.Fatalf("saslpasswd2: %v: %s", err, out)
	}
	p.Give("data/sasldb", "postfix")
	mechanisms := []string{"SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"}
	var options []string
	for i := range mechanisms {
		// What is better than the one that is meant isn't offered.
		p.Write(fmt.Sprintf("etc/sasl/login%d.conf", i), fmt.Sprintf(saslConf, p.Path("data/sasldb"), strings.Join(mechanisms[i:], " ")))
		options = append(options, fmt.Sprintf("-o smtpd_sasl_path=login%d", i))
	}
	for i, addr := range p.Start(options...) {
		t.Run(mechanisms[i], func(t *testing.T) {
			err := runtime.Run(func(ctx context.Context) error {
				config := trusting(p.CA.Pool())
				config.Auth = smtp.Password("alice", password)
				c, err := smtp.Dial(ctx, addr, config)
				if err != nil {
					return err
				}
				if offered, _ := c.Extension("AUTH"); !strings.Contains(offered, mechanisms[i]) {
					t.Errorf("offered were %s", offered)
				}
				if err := c.Quit(ctx); err != nil {
					return err
				}
				config.Auth = smtp.Password("alice", "another")
				_, err = smtp.Dial(ctx, addr, config)
				refused, ok := errors.AsType[*smtp.Error](err)
				if !ok || refused.Code != 535 || refused.Command != "AUTH "+mechanisms[i] {
					t.Errorf("another password: %v", err)
				}
				return nil
			})
			leaktest.Check(t, err)
		})
	}
}

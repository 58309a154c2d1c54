package smtp_test

import (
	"bufio"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/smtp"
)

// What would be ignored is an error, which says where it belongs.
func TestConfigIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		config client.Config
		says   string
	}{
		"delimiter":  {client.Config{EOF: "\n"}, "framing"},
		"length":     {client.Config{Length: packet.LengthField{Type: 'N'}}, "framing"},
		"split":      {client.Config{Split: bufio.ScanLines}, "framing"},
		"max packet": {client.Config{MaxPacket: 1 << 10}, "framing"},
		"reading":    {client.Config{ReadTimeout: time.Second}, "Config.Timeouts"},
		"writing":    {client.Config{WriteTimeout: time.Second}, "Config.Timeouts"},
	} {
		_, err := smtp.NewDialer(smtp.Config{Client: c.config})
		if !errors.Is(err, smtp.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPoolWithoutAddress(t *testing.T) {
	_, err := smtp.NewPool(smtp.PoolConfig{})
	if !errors.Is(err, smtp.ErrInvalid) || !strings.Contains(err.Error(), "Address") {
		t.Errorf("%v", err)
	}
}

//go:build interop

package interop

import (
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

package server

import "testing"

// A slot that is granted to who has just given up is free again.
func TestSlotGrantedTooLate(t *testing.T) {
	w := new(worker)
	h := newHandshake(&Conn{worker: w})
	h.state, h.underway = handshakeInside, true
	h.giveUp()
	if w.handshakes.slots != 1 || h.state != handshakeSilent {
		t.Errorf("%d slots are free, state %d", w.handshakes.slots, h.state)
	}
	h.end()
	if w.handshakes.slots != 1 || w.handshakes.silent.first != nil || w.handshakes.begun != -1 {
		t.Errorf("%+v", w.handshakes)
	}
}

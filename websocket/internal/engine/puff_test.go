package engine

import "testing"

// furthest decodes a message (RFC 1951) just to see how far back it refers. It is slow and simple,
// and takes nothing from the libraries that compress and inflate.
func furthest(t *testing.T, payload, dict []byte) int {
	t.Helper()
	p := puff{t: t, in: append(append([]byte{}, payload...), marker...), out: len(dict)}
	for p.pos < 8*len(p.in) {
		last := p.bits(1)
		switch p.bits(2) {
		case 0:
			p.pos = (p.pos + 7) &^ 7
			n := p.bits(16)
			p.bits(16)
			p.pos += 8 * n
			p.out += n
		case 1:
			p.block(fixedLengths[:288], fixedLengths[288:])
		case 2:
			p.dynamic()
		default:
			t.Fatal("reserved block")
		}
		if last == 1 {
			t.Fatal("last block within a message")
		}
	}
	return p.far
}

type puff struct {
	t             *testing.T
	in            []byte
	pos, out, far int
}

var fixedLengths = func() (l [318]int) {
	for i := range l {
		switch {
		case i < 144, i >= 280 && i < 288:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 5
		}
	}
	return l
}()

func (p *puff) bits(n int) (v int) {
	for i := range n {
		v |= int(p.in[p.pos/8]>>(p.pos%8)&1) << i
		p.pos++
	}
	return v
}

// A code maps length and bits to symbols.
type code map[[2]int]int

func newCode(lengths []int) code {
	c := code{}
	next := 0
	for n := 1; n <= 15; n++ {
		for symbol, length := range lengths {
			if length == n {
				c[[2]int{n, next}] = symbol
				next++
			}
		}
		next <<= 1
	}
	return c
}

func (p *puff) symbol(c code) int {
	v := 0
	for n := 1; n <= 15; n++ {
		v = v<<1 | p.bits(1)
		if s, ok := c[[2]int{n, v}]; ok {
			return s
		}
	}
	p.t.Fatal("no such code")
	return 0
}

func (p *puff) dynamic() {
	nlen, ndist, ncode := p.bits(5)+257, p.bits(5)+1, p.bits(4)+4
	order := []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	first := make([]int, 19)
	for _, i := range order[:ncode] {
		first[i] = p.bits(3)
	}
	c := newCode(first)
	var lengths []int
	for len(lengths) < nlen+ndist {
		s := p.symbol(c)
		repeat, value := 1, s
		switch s {
		case 16:
			repeat, value = 3+p.bits(2), lengths[len(lengths)-1]
		case 17:
			repeat, value = 3+p.bits(3), 0
		case 18:
			repeat, value = 11+p.bits(7), 0
		}
		for range repeat {
			lengths = append(lengths, value)
		}
	}
	p.block(lengths[:nlen], lengths[nlen:])
}

func (p *puff) block(lengths, distances []int) {
	c, d := newCode(lengths), newCode(distances)
	for {
		s := p.symbol(c)
		switch {
		case s < 256:
			p.out++
			continue
		case s == 256:
			return
		}
		n := 258
		switch {
		case s < 265:
			n = s - 254
		case s < 285:
			extra := (s - 261) / 4
			n = 3 + (4+(s-261)%4)<<extra + p.bits(extra)
		}
		distance := p.symbol(d)
		if distance < 4 {
			distance++
		} else {
			extra := distance/2 - 1
			distance = 1 + (2+distance%2)<<extra + p.bits(extra)
		}
		if distance > p.out {
			p.t.Fatalf("refers %d bytes back, behind %d", distance, p.out)
		}
		p.far = max(p.far, distance)
		p.out += n
	}
}

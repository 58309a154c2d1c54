package compact

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"io"
	"strings"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// All records under application keys in RFC 8448, section 3, decrypt, in both roles, and are sealed
// as they are there: a ticket, data both ways, and close_notify both ways.
func TestRFC8448(t *testing.T) {
	s := suites[tls.TLS_AES_128_GCM_SHA256]
	var client, server half
	copy(
		client.secret[:],
		unhex(t, "9e40646ce79a7f9dc05af8889bce6552 875afa0b06df0087f792ebb7c17504a5"),
	)
	copy(
		server.secret[:],
		unhex(t, "a11af9f05531f856ad47116b45a95032 8204b4f44bfb6b3a4b4f1f3fcb631643"),
	)
	for _, c := range []struct {
		half    *half
		key, iv string
	}{
		{&client, "17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9"},
		{&server, "9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984"},
	} {
		key, iv := s.traffic(c.half.secret[:s.secret])
		if hex.EncodeToString(key) != c.key || hex.EncodeToString(iv) != c.iv {
			t.Errorf("key %x, IV %x", key, iv)
		}
	}
	cs := &tls.ConnectionState{CipherSuite: tls.TLS_AES_128_GCM_SHA256}
	atClient := newState(s, identify(cs, true), &server, &client)
	atServer := newState(s, identify(cs, false), &client, &server)

	data := make([]byte, 50)
	for i := range data {
		data[i] = byte(i)
	}
	ticket := unhex(
		t,
		`17030300de3a6b8f90414a97d6959c3487680de5134a2b240e6cffac116e95d41d6af8f6b580dcf3d11d
		63c758db289a015940252f55713e061dc13e078891a38efbcf5753ad8ef170ad3c7353d16d9da773b9ca7f2b9fa1b6c0
		d4a3d03f75e09c30ba1e62972ac46f75f7b981be63439b2999ce13064615139891d5e4c5b406f16e3fc181a77ca47584
		0025db2f0a77f81b5ab05b94c01346755f69232c86519d86cbeeac87aac347d143f9605d64f650db4d023e70e952ca49
		fe5137121c74bc2697687e248746d6df353005f3bce18696129c8153556b3b6c6779b37bf15985684f`,
	)
	if n, got, answer, err := atClient.Open(nil, ticket); n != len(ticket) || got != nil || answer ||
		err != nil || atClient.DroppedTickets() != 1 {
		t.Errorf("the ticket: %d, %x, %v, %v", n, got, answer, err)
	}
	atServer.out.seq++ // it isn't a State that has sent that
	for _, c := range []struct {
		who      string
		from, to *State
		data     string
		end      string
	}{
		{"client", atClient, atServer, `1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b98
			19a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4`,
			"1703030013c9872760655666b74d7ff1153efd6db6d0b0e3"},
		{"server", atServer, atClient, `17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30e
			faf97d90e6dffc602dcb501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d`,
			"1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9"},
	} {
		record, end := unhex(t, c.data), unhex(t, c.end)
		if sealed, _ := c.from.Append(nil, data); !bytes.Equal(sealed, record) {
			t.Errorf("%s: %x\nwant %x", c.who, sealed, record)
		}
		if sealed := c.from.AppendCloseNotify(nil); !bytes.Equal(sealed, end) {
			t.Errorf("%s: close_notify is %x\nwant %x", c.who, sealed, end)
		}
		if _, got, _, err := c.to.Open(nil, record); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %x, %v", c.who, got, err)
		}
		if _, _, _, err := c.to.Open(nil, end); err != io.EOF {
			t.Errorf("%s: close_notify came as %v", c.who, err)
		}
	}
}

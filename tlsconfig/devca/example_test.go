package devca_test

import (
	"fmt"

	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func ExampleNew() {
	ca, err := devca.New("Example CA")
	if err != nil {
		fmt.Println(err)
		return
	}
	cert, err := ca.Issue("mail.test", "127.0.0.1")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cert.Leaf.Subject, cert.Leaf.DNSNames, cert.Leaf.IPAddresses, "issued by", cert.Leaf.Issuer)
	// Output: CN=mail.test [mail.test] [127.0.0.1] issued by CN=Example CA
}

// An authority that is kept is the same one the next time.
func ExampleFromKeyPair() {
	ca, err := devca.New("Example CA")
	if err != nil {
		fmt.Println(err)
		return
	}
	again, err := devca.FromKeyPair(ca.KeyPair()) // that WritePEM has written, and tls.LoadX509KeyPair read
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(again.Pool().Equal(ca.Pool()))
	// Output: true
}

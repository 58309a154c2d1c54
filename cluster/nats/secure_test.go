package nats_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/cluster/brokertest"
	"github.com/whorl-go/whorl/cluster/nats"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// listen starts a server with options, and returns its address.
func listen(t *testing.T, o *server.Options) string {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", -1, true, true
	s, err := server.NewServer(o)
	check(t, err)
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	go s.Start()
	until(t, "the server listens", func() bool { return s.Addr() != nil })
	return s.Addr().String()
}

// works publishes and receives; refused wants what is wrong.
func works(t *testing.T, url string, c nats.Config) {
	t.Helper()
	n, _ := connect(t, url, c)
	check(t, n.Subscribe("room.a"))
	n.Say("room.a", "hello")
	n.WaitFor(1)
}

func refused(t *testing.T, url string, c nats.Config, want string) {
	t.Helper()
	b, err := nats.Connect(url, c)
	check(t, err)
	err = b.Start(t.Context(), &brokertest.Node{})
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v, want %q", err, want)
	}
	check(t, b.Close(t.Context()))
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	check(t, os.WriteFile(file, data, 0o600))
	return file
}

func TestClientsSayWhoTheyAre(t *testing.T) {
	address := listen(t, &server.Options{Username: "user", Password: "pass"})
	works(t, "nats://"+address, nats.Config{User: "user", Password: "pass"})
	works(t, "nats://user:pass@"+address, nats.Config{})
	refused(t, "nats://"+address, nats.Config{User: "user", Password: "x"}, "Authorization")
	refused(t, "nats://"+address, nats.Config{}, "Authorization")

	address = listen(t, &server.Options{Authorization: "token"})
	works(t, "nats://"+address, nats.Config{Token: "token"})
	works(t, "nats://token@"+address, nats.Config{})
	refused(t, "nats://"+address, nats.Config{Token: "x"}, "Authorization")

	user, err := nkeys.CreateUser()
	check(t, err)
	public, err := user.PublicKey()
	check(t, err)
	seed, err := user.Seed()
	check(t, err)
	address = listen(t, &server.Options{Nkeys: []*server.NkeyUser{{Nkey: public}}})
	works(t, "nats://"+address, nats.Config{NKey: write(t, "user.nk", seed)})
	refused(t, "nats://"+address, nats.Config{}, "Authorization")

	credentials, options := operator(t)
	address = listen(t, options)
	works(t, "nats://"+address, nats.Config{Credentials: credentials})
	refused(t, "nats://"+address, nats.Config{}, "Authorization")
}

// operator returns a file of credentials, and options of a server that takes them.
func operator(t *testing.T) (string, *server.Options) {
	t.Helper()
	key := func(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
		k, err := create()
		check(t, err)
		public, err := k.PublicKey()
		check(t, err)
		return k, public
	}
	operatorKey, operatorPublic := key(nkeys.CreateOperator)
	accountKey, accountPublic := key(nkeys.CreateAccount)
	userKey, userPublic := key(nkeys.CreateUser)
	claims := jwt.NewOperatorClaims(operatorPublic)
	account, err := jwt.NewAccountClaims(accountPublic).Encode(operatorKey)
	check(t, err)
	user, err := jwt.NewUserClaims(userPublic).Encode(accountKey)
	check(t, err)
	seed, err := userKey.Seed()
	check(t, err)
	credentials, err := jwt.FormatUserConfig(user, seed)
	check(t, err)
	resolver := &server.MemAccResolver{}
	check(t, resolver.Store(accountPublic, account))
	return write(t, "user.creds", credentials), &server.Options{
		TrustedOperators: []*jwt.OperatorClaims{claims}, AccountResolver: resolver}
}

func TestTLSIsVerified(t *testing.T) {
	ca, err := devca.New("test")
	check(t, err)
	cert, err := ca.Issue("127.0.0.1")
	check(t, err)
	o := &server.Options{TLS: true, TLSTimeout: 10,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	address := listen(t, o)
	file := write(t, "ca.pem", ca.PEM())
	works(t, "tls://"+address, nats.Config{CA: file})
	works(t, "nats://"+address, nats.Config{TLS: &tls.Config{RootCAs: ca.Pool()}})
	refused(t, "tls://"+address, nats.Config{}, "unknown authority")
	refused(t, "nats://"+address, nats.Config{}, "unknown authority")
	_, port, err := net.SplitHostPort(address)
	check(t, err)
	refused(t, "tls://localhost:"+port, nats.Config{CA: file}, "localhost")
	refused(t, "tls://"+listen(t, &server.Options{}), nats.Config{}, "secure connection")
}

func TestNothingIsDroppedOverTLSThatTheBoundsHaveRoomFor(t *testing.T) {
	ca, err := devca.New("test")
	check(t, err)
	cert, err := ca.Issue("127.0.0.1")
	check(t, err)
	address := listen(t, &server.Options{TLS: true, TLSTimeout: 10,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}})
	n, b := connect(t, "tls://"+address, nats.Config{TLS: &tls.Config{RootCAs: ca.Pool()},
		Prefix: "w", QueueMessages: 200_000})
	check(t, n.Subscribe("a"))
	const count = 100_000
	for i := 0; i < count; {
		if err := n.Publish("a", nil); err == nil {
			i++
		} else if !errors.Is(err, cluster.ErrDisconnected) || !b.Stats().Connected {
			t.Fatal(err)
		} else {
			time.Sleep(time.Millisecond) // MaxPending
		}
	}
	until(t, "all are received", func() bool { return b.Stats().MessagesIn == count })
	if s := b.Stats(); s.Dropped > 0 {
		t.Errorf("stats are %+v", s)
	}
}

func TestServersOfAClusterThatWereNotNamedAreFound(t *testing.T) {
	servers := cluster3(t, false)
	n, b := connect(t, urls(servers[:1]), impatient(nats.Config{}))
	brokertest.Join(n, "room.a", n)
	servers[0].Shutdown()
	servers[0].WaitForShutdown()
	reconnected(t, n)
	if s := b.Stats().Server; strings.Contains(s, fmt.Sprint(servers[0].Addr())) ||
		strings.Contains(s, "test@") {
		t.Errorf("it is connected to %q", s)
	}
}

// The permissions are those of the package's documentation.
func TestAUserNeedsNoOtherPermissionsThanTheDocumentedOnes(t *testing.T) {
	file := write(t, "server.conf", []byte(`
		jetstream { store_dir: "`+t.TempDir()+`", max_file_store: 1GB, max_memory_store: 64MB }
		accounts {
		  CHAT {
		    jetstream: enabled
		    users: [ { user: chat, password: "pass", permissions: {
		      publish:   ["whorl.>", "$JS.API.INFO", "$JS.API.STREAM.*.whorl_rooms",
		                  "$JS.API.STREAM.MSG.GET.whorl_rooms", "$JS.API.DIRECT.GET.whorl_rooms"]
		      subscribe: ["whorl.>", "_INBOX.>"] } } ]
		  }
		}`))
	o, err := server.ProcessConfigFile(file)
	check(t, err)
	address := listen(t, o)
	_, first := connect(t, "nats://chat:pass@"+address, keeping(nats.History{MaxMessages: 10}))
	check(t, first.Close(t.Context()))
	n, b := connect(t, "nats://chat:pass@"+address, keeping(nats.History{MaxMessages: 20}))
	check(t, n.Subscribe("room.a"))
	check(t, n.Subscribe("user.a"))
	got := publish(t, n, "room.a", 3)
	publish(t, n, "user.a", 1)
	sinceIs(t, b, "room.a", got[0].At, 10, 2, nil)
	if s := b.Stats(); s.Rejected > 0 {
		t.Errorf("stats are %+v", s)
	}
	_, other := connect(t, "nats://chat:pass@"+address, impatient(nats.Config{Prefix: "other"}))
	check(t, other.Subscribe("room.a"))
	until(t, "that isn't allowed", func() bool { return other.Stats().Rejected == 1 })
}

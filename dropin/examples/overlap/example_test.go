package main

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"

	"github.com/alicebob/miniredis/v2"
	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
)

// Without a server: a small Redis in the process, and one that speaks as much of MySQL's protocol
// as the driver needs. It answers none of the three questions before all of them have come, so that
// they have to overlap.
func Example_overlap() {
	cache, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer cache.Close()
	database := startMySQL(3)
	defer database.Close()
	dial := new(hooks.Dialer).DialContext
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", database.Addr().String()
	config.User, config.InterpolateParams, config.DialFunc = "demo", true, dial
	connector, err := mysql.NewConnector(config)
	if err != nil {
		panic(err)
	}
	var out strings.Builder
	err = runtime.Run(func(ctx context.Context) error {
		db := sql.OpenDB(connector)
		cache := redis.NewClient(&redis.Options{Addr: cache.Addr(), Dialer: dial})
		defer runtime.Await(ctx, func() (none struct{}, err error) {
			return none, errors.Join(db.Close(), cache.Close())
		})
		return overlap(ctx, db, cache, &out)
	}, runtime.WithLoops(1))
	begun, ended, _ := strings.Cut(out.String(), "redis begins\n")
	fmt.Printf("%sredis begins\n%v\n", begun, err)
	ended, _, _ = strings.Cut(ended, "about")
	fmt.Print(ended)
	// Unordered output:
	// mysql 1 begins
	// mysql 2 begins
	// mysql 3 begins
	// redis begins
	// <nil>
	// mysql 3 ends with 30
	// mysql 2 ends with 20
	// mysql 1 ends with 10
	// redis ends with nothing
}

// startMySQL starts a server that answers SELECT SLEEP(…), n when so many have asked it.
func startMySQL(questions int) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	var asked sync.WaitGroup
	asked.Add(questions)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveMySQL(c, &asked)
		}
	}()
	return l
}

// Packets of MySQL's protocol, without the four bytes of their header.
const (
	greeting = "\x0a" + "8.0.0\x00" + "\x01\x00\x00\x00" + "12345678\x00" + // version, number, salt
		"\x01\xa2" + "\x21" + "\x02\x00" + "\x08\x00" + // capabilities, characters, status
		"\x15" + "0000000000" + "123456789012\x00" + "mysql_native_password\x00"
	okay   = "\x00\x00\x00\x02\x00\x00\x00"
	column = "\x03def\x00\x00\x00\x01v\x00\x0c\x21\x00\x40\x00\x00\x00\xfd\x00\x00\x00\x00\x00"
	end    = "\xfe\x00\x00\x02\x00"
)

var question = regexp.MustCompile(`^\x03SELECT SLEEP\(0\.[123]\), (\d\d)$`)

func serveMySQL(c net.Conn, asked *sync.WaitGroup) {
	defer c.Close()
	answer(c, 0, greeting)
	if _, err := packet(c); err != nil { // who the client is
		return
	}
	answer(c, 2, okay)
	for {
		command, err := packet(c)
		if err != nil {
			return
		}
		m := question.FindStringSubmatch(command)
		if m == nil {
			return // COM_QUIT
		}
		asked.Done()
		asked.Wait()
		answer(c, 1, "\x02", column, column, end, "\x010\x02"+m[1], end)
	}
}

func packet(c net.Conn) (string, error) {
	var header [4]byte
	if _, err := io.ReadFull(c, header[:]); err != nil {
		return "", err
	}
	body := make([]byte, int(header[0])|int(header[1])<<8|int(header[2])<<16)
	_, err := io.ReadFull(c, body)
	return string(body), err
}

func answer(c net.Conn, number byte, packets ...string) {
	var all []byte
	for _, p := range packets {
		all = binary.LittleEndian.AppendUint32(all, uint32(len(p))|uint32(number)<<24)
		all = append(all, p...)
		number++
	}
	c.Write(all)
}

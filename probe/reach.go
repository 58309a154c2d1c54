package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// maxAddresses is how many of a host's addresses are tried.
const maxAddresses = 16

// reach looks the host up and connects to each of its addresses. It reports whether one of them
// takes a connection.
func (p *prober) reach(ctx context.Context) bool {
	began := time.Now()
	addresses, err := p.lookUp(ctx)
	if err != nil || len(addresses) == 0 {
		detail := "the host has no address"
		if err != nil {
			detail = text.Printable(err.Error(), text.MaxText)
		}
		p.report.layer(layerDNS, Failed, detail, began)
		p.report.add(found(IDDNS, layerDNS, detail))
		return false
	}
	p.report.layer(layerDNS, Passed, text.List(addresses, netip.Addr.String), began)

	began = time.Now()
	var first error
	open, dead := 0, []string{}
	for _, address := range addresses[:min(maxAddresses, len(addresses))] {
		tried, err := p.tryAddress(ctx, address)
		p.report.Addresses = append(p.report.Addresses, tried)
		switch {
		case err == nil:
			open++
		case first == nil:
			first = err
			fallthrough
		default:
			dead = append(dead, tried.Address+" ("+tried.Error+")")
		}
	}
	p.report.Reachable = open > 0
	if open == 0 {
		id, _ := unreached(first)
		detail := text.List(dead, func(s string) string { return s })
		p.report.layer(layerTCP, Failed, detail, began)
		p.report.add(found(id, layerTCP, detail))
		return false
	}
	p.report.layer(layerTCP, Passed, "connected to "+p.address, began)
	if len(dead) > 0 {
		p.report.add(found(IDAddressDead, layerTCP,
			text.List(dead, func(s string) string { return s })+", while others are open"))
	}
	return true
}

// lookUp returns the host's addresses.
func (p *prober) lookUp(ctx context.Context) ([]netip.Addr, error) {
	if address, err := netip.ParseAddr(p.host); err == nil {
		return []netip.Addr{address}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.options.Timeout)
	defer cancel()
	return runtime.Await(ctx, func() ([]netip.Addr, error) {
		resolver := p.options.Resolver
		if resolver == nil {
			resolver = net.DefaultResolver
		}
		addresses, err := resolver.LookupNetIP(ctx, "ip", p.host)
		for i := range addresses {
			addresses[i] = addresses[i].Unmap()
		}
		return addresses, err
	})
}

// tryAddress connects to an address, and remembers the first one that takes the connection.
func (p *prober) tryAddress(ctx context.Context, address netip.Addr) (Address, error) {
	began := time.Now()
	target := netip.AddrPortFrom(address, uint16(p.target.Port)).String()
	tried := Address{Address: address.String()}
	c := client.New(client.Config{ConnectTimeout: p.options.Timeout, Linger: -1})
	err := c.Connect(ctx, "tcp", target)
	took := time.Since(began)
	tried.Seconds = took.Seconds()
	if err != nil {
		_, tried.Error = unreached(err)
		return tried, err
	}
	c.Close()
	tried.Open = true
	if p.address == "" {
		p.address, p.trip = target, took
	}
	return tried, nil
}

// unreached says why there is no connection.
func unreached(err error) (id explain.ID, said string) {
	switch errno, _ := errors.AsType[syscall.Errno](err); {
	case errors.Is(err, syscall.ECONNREFUSED):
		return IDRefused, "connection refused"
	case isTimeout(err), errors.Is(err, syscall.ETIMEDOUT):
		return IDTimeout, "no answer in time"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return IDTimeout, "given up"
	case errno != 0:
		return IDUnreachable, errno.Error()
	}
	return IDUnreachable, text.Printable(err.Error(), text.MaxText)
}

// connect connects to the address that is probed. Configure may change how; nil: nothing to change.
func (p *prober) connect(
	ctx context.Context,
	configure func(*client.Config),
) (*client.Client, error) {
	config := client.Config{
		ConnectTimeout: p.options.Timeout, HandshakeTimeout: p.options.Timeout,
		ReadTimeout: p.options.Timeout, WriteTimeout: p.options.Timeout, Linger: -1,
	}
	if configure != nil {
		configure(&config)
	}
	c := client.New(config)
	return c, c.Connect(ctx, "tcp", p.address)
}

// recv waits for what the server says, at most so long.
func (p *prober) recv(
	ctx context.Context, c *client.Client, patience time.Duration,
) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	said, err := c.Recv(ctx)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", runtime.ErrTimeout, err)
	}
	return append([]byte(nil), said...), err
}

// hostPort is how the target is named in HTTP.
func (p *prober) hostPort() string {
	if p.target.Port == 443 {
		return p.name
	}
	return net.JoinHostPort(p.name, strconv.Itoa(p.target.Port))
}

// Package handshaketest plays networks that tests of handshakes need.
package handshaketest

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// largest is how many bytes of a connection's first flight come through.
const largest = 1400

// Relay is a network on the way to a server that drops a first flight of two packets, in
// silence.
type Relay struct {
	Addr string // where it listens
	// Dropped and Passed count connections by what became of their first flight.
	Dropped, Passed atomic.Int32
}

// NewRelay returns a relay to a TLS server at the address target.
func NewRelay(t testing.TB, target string) *Relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &Relay{Addr: listener.Addr().String()}
	var serving sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	keep := func(c net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		open = append(open, c)
	}
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			keep(c)
			serving.Go(func() {
				defer c.Close()
				r.serve(c, target, keep)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	return r
}

func (r *Relay) serve(c net.Conn, target string, keep func(net.Conn)) {
	var header [5]byte // of the first record, which is the whole ClientHello
	if _, err := io.ReadFull(c, header[:]); err != nil {
		return
	}
	if size := len(header) + int(binary.BigEndian.Uint16(header[3:])); size > largest {
		r.Dropped.Add(1)
		_, _ = io.Copy(io.Discard, c)
		return
	}
	r.Passed.Add(1)
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	keep(server)
	defer server.Close()
	if _, err := server.Write(header[:]); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(server, c)
		_ = server.Close()
	}()
	_, _ = io.Copy(c, server)
}

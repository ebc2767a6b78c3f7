package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"
)

// Both ends of what is measured speak just as much HTTP as they need: net/http would
// cost more than the proxies do.

// request is one that arrived. It is good until the next one is read.
type request struct {
	path, query string
	body        []byte
}

// server answers requests, each connection on a goroutine of its own.
type server struct {
	listener    net.Listener
	connections atomic.Int64 // how many there have been
}

func listen() (*server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is there as long as the process
	if err != nil {
		return nil, err
	}
	return &server{listener: listener}, nil
}

func (s *server) address() string { return s.listener.Addr().String() }

// handler appends its answers to what it is given. Each connection has its own, and
// closes it.
type handler interface {
	answer(r *request, out []byte) []byte
	close()
}

func (s *server) serve(newHandler func() handler) {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.connections.Add(1)
		go func() {
			defer conn.Close()
			h := newHandler()
			defer h.close()
			in := bufio.NewReaderSize(conn, 4<<10)
			var req request
			var out []byte
			for {
				if err := req.read(in); err != nil {
					return
				}
				out = h.answer(&req, out[:0])
				if _, err := conn.Write(out); err != nil {
					return
				}
			}
		}()
	}
}

func (r *request) read(in *bufio.Reader) error {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	parts := bytes.Fields(line)
	if len(parts) != 3 {
		return errors.New("not HTTP")
	}
	path, query, _ := bytes.Cut(parts[1], []byte("?"))
	if string(path) != r.path {
		r.path = string(path)
	}
	if string(query) != r.query {
		r.query = string(query)
	}
	head, err := readHead(in)
	if err != nil {
		return err
	}
	r.body, err = readBody(in, head.length, r.body)
	return err
}

// head is what there is to know of a message's headers.
type head struct {
	length  int
	outcome bool // Midas-Outcome: applied
}

func readHead(in *bufio.Reader) (head, error) {
	var h head
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return head{}, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return h, nil
		}
		switch name, value, _ := bytes.Cut(line, []byte(": ")); {
		case isName(name, "content-length"):
			if h.length, err = strconv.Atoi(string(value)); err != nil || h.length < 0 || h.length > 1<<20 {
				return head{}, fmt.Errorf("content-length: %q", value)
			}
		case isName(name, "midas-outcome"):
			h.outcome = string(value) == "applied"
		case isName(name, "transfer-encoding"):
			return head{}, errors.New("chunked messages are not expected here")
		}
	}
}

func isName(name []byte, want string) bool {
	return len(name) == len(want) && bytes.EqualFold(name, []byte(want))
}

// readBody reads a body into buffer, or a larger one.
func readBody(in *bufio.Reader, length int, buffer []byte) ([]byte, error) {
	if cap(buffer) < length {
		buffer = make([]byte, length)
	}
	buffer = buffer[:length]
	_, err := io.ReadFull(in, buffer)
	return buffer, err
}

// appendAnswer appends an answer of JSON.
func appendAnswer(out []byte, status string, body []byte) []byte {
	out = append(out, "HTTP/1.1 "...)
	out = append(out, status...)
	out = append(out, "\r\nContent-Type: application/json; charset=UTF-8\r\nContent-Length: "...)
	out = strconv.AppendInt(out, int64(len(body)), 10)
	out = append(out, "\r\n\r\n"...)
	return append(out, body...)
}

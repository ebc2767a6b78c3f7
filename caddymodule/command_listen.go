package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listenOn opens the address that a command was given. Where it is taken, the error
// gives another command line to try.
func listenOn(ctx context.Context, address, another string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is taken by another program; choose another port, for example: midas-sidecar %s", address, another)
	case err != nil:
		return nil, fmt.Errorf("listening, for which an address such as 127.0.0.1:8080 is needed: %w", err)
	}
	return listener, nil
}

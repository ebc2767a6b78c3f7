package caddymodule

import (
	"slices"
	"sync"
)

// succession are the configs that there are, each with what others follow while it is
// the newest. A config that cannot be started leaves the place to the one before it,
// which runs on.
type succession[T any] struct {
	// follow, where there is one, is told who is the newest now.
	follow func(T)

	mu      sync.Mutex
	members []T // the oldest first
}

func (s *succession[T]) enter(member T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = append(s.members, member)
	s.tell()
}

func (s *succession[T]) leave(is func(T) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = slices.DeleteFunc(s.members, is)
	s.tell()
}

func (s *succession[T]) tell() {
	if n := len(s.members); n > 0 && s.follow != nil {
		s.follow(s.members[n-1])
	}
}

// newest returns the newest member, the zero value if there is none.
func (s *succession[T]) newest() (newest T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.members); n > 0 {
		newest = s.members[n-1]
	}
	return newest
}

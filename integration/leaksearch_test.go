package integration

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// run16 is how much of a secret is a leak.
const run16 = 16

// canaries are the secrets to search for, by class.
type canaries struct {
	mu      sync.Mutex
	classes map[string]string // by value
}

func (c *canaries) add(class, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.classes == nil {
		c.classes = make(map[string]string)
	}
	if len(value) >= run16 && c.classes[value] == "" {
		c.classes[value] = class
	}
}

// count tells how many there are of each class.
func (c *canaries) count() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := make(map[string]int)
	for _, class := range c.classes {
		counts[class]++
	}
	return counts
}

// forms are the ways in which a program may write a secret down.
func forms(secret string) map[string]string {
	quoted, _ := json.Marshal(secret)
	var plain strings.Builder
	encoder := json.NewEncoder(&plain)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(secret)
	all := map[string]string{
		"as it is":            secret,
		"in JSON":             strings.Trim(string(quoted), `"`),
		"in JSON, no HTML":    strings.Trim(strings.TrimSpace(plain.String()), `"`),
		"quoted by Go":        strings.Trim(strconv.Quote(secret), `"`),
		"in JSON twice":       strings.Trim(strconv.Quote(strings.Trim(string(quoted), `"`)), `"`),
		"in a query":          url.QueryEscape(secret),
		"in a path":           url.PathEscape(secret),
		"in hex":              hex.EncodeToString([]byte(secret)),
		"in upper hex":        strings.ToUpper(hex.EncodeToString([]byte(secret))),
		"in base64 for URLs":  base64.RawURLEncoding.EncodeToString([]byte(secret)),
		"in upper case":       strings.ToUpper(secret),
		"in hex with spaces":  fmt.Sprintf("% x", secret),
		"as numbers of bytes": strings.Trim(fmt.Sprint([]byte(secret)), "[]"),
	}
	// Where base64 holds more than the secret, this may begin at any of three places.
	for before := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + secret))
		all[fmt.Sprint("in base64 after ", before)] = encoded[(before*8+5)/6 : len(encoded)-1]
	}
	return all
}

// form is one way to write one secret.
type form struct{ class, name string }

// search finds any 16 characters of any form.
type search struct {
	forms []form
	runs  map[[run16]byte]int32 // in forms
}

func (c *canaries) search() *search {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &search{runs: make(map[[run16]byte]int32)}
	for secret, class := range c.classes {
		for name, text := range forms(secret) {
			s.forms = append(s.forms, form{class, name})
			for i := 0; i+run16 <= len(text); i++ {
				s.runs[[run16]byte([]byte(text[i:i+run16]))] = int32(len(s.forms) - 1)
			}
		}
	}
	return s
}

// in tells what of the secrets is in the text, and around where. The secret itself is
// not shown.
func (s *search) in(text string) []string {
	bytes, found := []byte(text), make(map[string]bool)
	var hits []string
	for i := 0; i+run16 <= len(bytes); i++ {
		at, ok := s.runs[[run16]byte(bytes[i:i+run16])]
		if !ok {
			continue
		}
		before := text[max(0, i-160):i]
		hit := fmt.Sprintf("%s %s", s.forms[at].class, s.forms[at].name)
		if !found[hit] {
			found[hit] = true
			hits = append(hits, fmt.Sprintf("%s, after %q", hit, before))
		}
		i += run16 - 1
	}
	return hits
}

func TestTheSearchFindsEachFormOfASecret(t *testing.T) {
	var c canaries
	const secret = `kE+y/0f=the"app<of&1\2`
	c.add("key", secret)
	s := c.search()
	noise := strings.Repeat(`{"level":"info","msg":"order","logger":"midas"} `, 5)
	require.Empty(t, s.in(noise))
	for name, text := range forms(secret) {
		require.NotEmpty(t, s.in(noise+text+noise), name)
		require.NotEmpty(t, s.in(noise+text[3:3+run16]+noise), "a part "+name)
	}
	require.Empty(t, s.in(noise+secret[:run16-1]+noise), "no more than any 15 characters")
	require.NotEmpty(t, s.in(base64.StdEncoding.EncodeToString([]byte("approle:"+secret+":"))))
}

// places are where secrets are searched, by name.
type places struct {
	mu    sync.Mutex
	texts map[string]*strings.Builder
}

func (p *places) add(name, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.texts == nil {
		p.texts = make(map[string]*strings.Builder)
	}
	if p.texts[name] == nil {
		p.texts[name] = &strings.Builder{}
	}
	_, _ = p.texts[name].WriteString(text + "\n")
}

// each calls f for each place, in order.
func (p *places) each(f func(name, text string)) {
	var names []string
	for name := range p.texts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f(name, p.texts[name].String())
	}
}

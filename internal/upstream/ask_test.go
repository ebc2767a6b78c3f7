package upstream_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/upstream"
)

// hostsAsked returns a transport that notes whom it asks and answers as told.
func hostsAsked(asked *[]string, answer func(r *http.Request) (*http.Response, error)) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		*asked = append(*asked, r.URL.Host)
		return answer(r)
	})
}

func TestAttemptsGoRoundTheHosts(t *testing.T) {
	var asked []string
	c := client(t, hostsAsked(&asked, func(*http.Request) (*http.Response, error) { return answering(200, answer) }),
		"https://a", "https://b/", "http://c:8080")
	for attempt := range 5 {
		require.NoError(t, c.Send(t.Context(), attempt, message).Err)
	}
	require.Equal(t, []string{"a", "b", "c:8080", "a", "b"}, asked)
}

func TestAskGoesOnUntilAHostAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(host string) (*http.Response, error)
		asked  []string
		body   string // "" for an error
	}{
		{"the first answers", func(host string) (*http.Response, error) { return answering(200, host) }, []string{"a"}, "a"},
		{"the first refuses", func(host string) (*http.Response, error) { return answering(401, host) }, []string{"a"}, "a"},
		{"the first fails", func(host string) (*http.Response, error) {
			if host == "a" {
				return nil, io.EOF
			}
			return answering(200, host)
		}, []string{"a", "b"}, "b"},
		{"the first is a gateway without WeChat", func(host string) (*http.Response, error) {
			if host == "a" {
				return answering(502, host)
			}
			return answering(200, host)
		}, []string{"a", "b"}, "b"},
		{"all are gateways without WeChat", func(host string) (*http.Response, error) { return answering(502, host) }, []string{"a", "b", "c"}, "c"},
		{"all fail", func(string) (*http.Response, error) { return nil, io.EOF }, []string{"a", "b", "c"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked []string
			exchange, err := client(t, hostsAsked(&asked, func(r *http.Request) (*http.Response, error) { return c.answer(r.URL.Host) }),
				"https://a", "https://b", "https://c").Ask(t.Context(), message)
			require.Equal(t, c.asked, asked)
			require.Equal(t, c.body, string(exchange.Body))
			require.Equal(t, c.body == "", err != nil)
		})
	}
}

func TestAskGivesUpWithItsCaller(t *testing.T) {
	var asked []string
	ctx, hangUp := context.WithCancel(t.Context())
	_, err := client(t, hostsAsked(&asked, func(*http.Request) (*http.Response, error) {
		hangUp()
		return nil, ctx.Err()
	}), "https://a", "https://b").Ask(ctx, message)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []string{"a"}, asked)
}

func TestAHostThatHangsLeavesTimeForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		c := client(t, hostsAsked(&asked, func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "c" {
				return answering(200, answer)
			}
			<-r.Context().Done()
			return nil, r.Context().Err()
		}), "https://a", "https://b", "https://c")
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
		defer cancel()
		start := time.Now()
		exchange, err := c.Ask(ctx, message)
		require.NoError(t, err)
		require.Equal(t, answer, string(exchange.Body))
		require.Equal(t, 4*time.Second, time.Since(start))
	})
}

func TestNewRefusesWhatIsNotAHost(t *testing.T) {
	for _, host := range []string{
		"", "api.weixin.qq.com", "//api.weixin.qq.com", "ftp://api.weixin.qq.com", "https:api.weixin.qq.com", "https://", "https://:443",
		"https://api.weixin.qq.com/cgi-bin", "https://api.weixin.qq.com?access_token=" + canary, "https://api.weixin.qq.com#" + canary,
		"https://user:" + canary + "@api.weixin.qq.com", "https://api weixin", "https://api.weixin.qq.com:" + canary, "https://%zz",
	} {
		_, err := upstream.New([]string{"https://api2.weixin.qq.com", host}, nil)
		require.EqualError(t, err, "upstream: must be http:// or https:// and a host, nothing more; number 2 is not", host)
	}
	_, err := upstream.New(nil, nil)
	require.EqualError(t, err, "upstream: at least one is needed")
}

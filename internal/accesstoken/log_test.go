package accesstoken_test

import (
	"errors"
	"net"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"midas-sidecar/internal/accesstoken"
)

func TestTheSameTroubleOfTheNetworkIsTheSameInTheLog(t *testing.T) {
	address := func(n int) net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000 + n} }
	for _, c := range []struct {
		name, want string
		err        func(n int) error
	}{
		{"a reset", "read tcp: reset", func(n int) error {
			return &net.OpError{Op: "read", Net: "tcp", Source: address(n), Addr: address(n + 1), Err: errors.New("reset")}
		}},
		{"a lookup", "lookup host: timeout", func(n int) error {
			return &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{
				Name: "host", Server: strconv.Itoa(n), Err: "read udp " + strconv.Itoa(n), IsTimeout: true,
			}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := new(weChat)
				s, log := newLogged(t, w)
				for n := range 10 {
					w.fails(c.err(n))
					require.EqualError(t, fails(t, s), "asking for the access_token: "+c.want)
					time.Sleep(time.Second)
				}
				require.Equal(t, `level=WARN msg="access_token cannot be had" appid=wx1234567 error="asking for the access_token: `+c.want+`" since=0s`+"\n", log())
			})
		})
	}
}

func TestTheStatusSaysHowLongThereIsATokenAndWhyNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(weChat)
		s := newStable(t, w)
		require.Equal(t, accesstoken.Status{}, s.Status())
		began := time.Now()
		token(t, s)
		require.Equal(t, accesstoken.Status{Expires: began.Add(2 * time.Hour)}, s.Status())

		w.answers(`{"errcode":40164}`)
		time.Sleep(10 * time.Minute)
		token(t, s)
		time.Sleep(time.Minute)
		status := s.Status()
		require.Equal(t, began.Add(2*time.Hour), status.Expires)
		require.ErrorContains(t, status.Failure, "40164")
		require.Equal(t, began.Add(10*time.Minute+2*time.Second), status.Since)
	})
}

func TestTheLogHearsOnceThatTheTokenIsAboutToBeLostIsLostAndIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const refused = "WeChat refuses an access_token: errcode 40164 (this IP address is not on the app's list)"
		w := &weChat{takes: 50 * time.Millisecond}
		s, log := newLogged(t, w)
		call := func(long time.Duration) {
			for began := time.Now(); time.Since(began) < long; time.Sleep(time.Second) {
				_, _ = s.Token(t.Context())
			}
		}
		call(time.Minute)
		require.Empty(t, log())

		w.answers(`{"errcode":40164,"errmsg":"` + canary + `"}`)
		call(5 * time.Minute)
		require.Equal(t, `level=WARN msg="access_token cannot be had" appid=wx1234567 `+
			`error="`+refused+`" since=0s good_until=1h54m59.9s`+"\n", log())
		call(113 * time.Minute)
		require.Empty(t, log())

		call(2 * time.Minute)
		require.Equal(t, `level=WARN msg="access_token cannot be had" appid=wx1234567 `+
			`error="the last access_token has expired: `+refused+`" since=-1h55m8s`+"\n", log(), "at the next try")
		call(time.Hour)
		require.Empty(t, log())

		w.answers("")
		call(time.Minute)
		require.Regexp(t, `^level=INFO msg="access_token can be had again" appid=wx1234567 after=2h56m\S+ good_until=1h59m59.95s`+"\n$", log())
	})
}

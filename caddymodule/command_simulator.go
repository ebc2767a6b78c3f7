package caddymodule

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"midas-sidecar/internal/simulator"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "simulator",
		Usage: "[--listen <address>] [--state <file>] [--lenient]",
		Short: "Serves a WeChat that verifies, to try and test against",
		Long: `
A WeChat on your own host, for whoever has no account or wants to break nothing:
it serves pay, cancelpay, getbalance and present, official and sandbox, verifies
both signatures, keeps the players' coins, remembers each bill_no for 48 hours,
and answers with WeChat's errcodes. It also serves the access_token and the login:

  POST /cgi-bin/midas/[sandbox/]{pay,cancelpay,getbalance,present}
  POST /wxa/game/{pay,cancelpay,getbalance,present,queryorderinfo}
  POST /cgi-bin/stable_token
  GET  /cgi-bin/token
  GET  /sns/jscode2session
  GET  /wxa/checksession

Each call is one line in the log, and a refusal says why: "sig is wrong: it would
be right with the official key: the sandbox path needs midas_key_sandbox".

It holds calls to the letter of WeChat's pages: it refuses a Content-Type other than
application/json, a number written as text and a text written as a number, an
access_token in the body, a field that the API does not have, and an empty optional
field. WeChat is said to take all these; with --lenient the simulator takes them too,
to try code that works as it is. Signatures are verified either way.

It begins with the app wx1234567, which has WeChat's sample keys, and one player
with 10000 coins in each environment. With --state a JSON file keeps everything
over a restart; it is created where it does not exist. To bring your own apps and
players, end the simulator, edit the file, and start it again. Beside the keys of an
app "mp_sig_optional": true lets calls of v1 leave mp_sig out, as WeChat's newest pages
do; without it they are refused, "mp_sig missing".

Point the sidecar at it in the Caddyfile:

  {
  	grace_period 30s
  	midas {
  		secrets file keys.json
  		app wx1234567 {
  			offer_id 12345678
  		}
  		upstream http://127.0.0.1:9090
  	}
  }

  http://:8080 {
  	bind 127.0.0.1
  	midas
  	respond 404
  }

with the sample keys in keys.json:

  {
    "midas/wx1234567": {
      "midas_key": "zNLgAGgqsEWJOg1nFVaO5r7fAlIQxr1u",
      "midas_key_sandbox": "sandboxKeyForTestsOnly0123456789",
      "app_secret": "demo-app-secret-of-the-simulator"
    },
    "midas/wx1234567/sessions/odkx20ENSNa2w5y3g_qOkOvBNM1g": {
      "session_key": "V7Q38/i2KXaqrQyl2Yx9Hg=="
    }
  }

and pay through the sidecar, unsigned:

  curl -i http://127.0.0.1:8080/cgi-bin/midas/pay -H 'Content-Type: application/json' \
    -d '{"openid":"odkx20ENSNa2w5y3g_qOkOvBNM1g","amt":5,"bill_no":"Order_1"}'

Ask it directly:

  # what everybody has, and what became of each order
  curl http://127.0.0.1:9090/simulator/books

  # a player logs in: a js_code for /sns/jscode2session, and a new session_key
  curl http://127.0.0.1:9090/simulator/login \
    -d '{"appid":"wx1234567","openid":"odkx20ENSNa2w5y3g_qOkOvBNM1g"}'

  # an access_token
  curl http://127.0.0.1:9090/cgi-bin/stable_token \
    -d '{"grant_type":"client_credential","appid":"wx1234567","secret":"demo-app-secret-of-the-simulator"}'

Rehearse what WeChat does on a bad day. Faults strike calls that are signed well:

  # the first attempt of Order_2 is carried out and its answer lost, the second
  # is answered -1, further ones are served well
  curl http://127.0.0.1:9090/simulator/faults \
    -d '{"rules":[{"bill_no":"Order_2","faults":["lost_after","busy_before"]}]}'

  # the first attempt of each pay hangs, and takes the coins two seconds after
  # the client has given up
  curl http://127.0.0.1:9090/simulator/faults \
    -d '{"rules":[{"api":"pay","faults":[{"kind":"late","delay":"2s"}]}]}'

  # one in ten attempts in the sandbox goes wrong, in one of three ways; the same
  # seed strikes the same attempts of the same orders
  curl http://127.0.0.1:9090/simulator/faults \
    -d '{"rules":[{"environment":"sandbox","faults":["reset_after","http_502_before","hang_after"],"rate":0.1,"seed":1}]}'

  # the faults that are set and all that there are; then none any more
  curl http://127.0.0.1:9090/simulator/faults
  curl -X DELETE http://127.0.0.1:9090/simulator/faults

The first rule that fits a call decides, and setting rules counts the attempts
anew. The books show how many attempts arrived and what they did.

Whoever reaches the port can log in as any player: keep it on this host.
`,
		CobraFunc: func(cmd *cobra.Command) {
			listen := cmd.Flags().StringP("listen", "l", "127.0.0.1:9090", "Where the simulator listens")
			state := cmd.Flags().StringP("state", "s", "", "JSON file that keeps apps, players, orders and tokens (default: in memory)")
			lenient := cmd.Flags().Bool("lenient", false, "Take what WeChat is said to take though its pages do not")
			cmd.Args = cobra.NoArgs
			cmd.RunE = func(cmd *cobra.Command, _ []string) error {
				ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
				defer stop()
				return serveSimulator(ctx, *listen, *state, *lenient, cmd.ErrOrStderr())
			}
		},
	})
}

// serveSimulator serves until ctx ends, and then lets the calls that have begun
// come to their end.
func serveSimulator(ctx context.Context, listen, stateFile string, lenient bool, out io.Writer) error {
	options := simulator.Options{Lenient: lenient, Log: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: forPeople}))}
	weChat, err := newSimulator(stateFile, options)
	if err != nil {
		return err
	}
	listener, err := listenOn(ctx, listen, "simulator --listen 127.0.0.1:9091")
	if err != nil {
		return err
	}

	kept := "in memory: use --state to keep it"
	if stateFile != "" {
		kept = "kept in " + stateFile
	}
	fmt.Fprintf(out, `A WeChat that verifies, its state %[2]s.
In the Caddyfile:  upstream http://%[1]s
See the coins:     curl http://%[1]s/simulator/books
Let it misbehave:  midas-sidecar help simulator
Ctrl-C ends it.

`, listener.Addr(), kept)

	server := &http.Server{Handler: weChat, ReadHeaderTimeout: 10 * time.Second}
	server.RegisterOnShutdown(weChat.Forget) // whatever hangs by a fault ends
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if server.Shutdown(patience) != nil {
		_ = server.Close()
	}
	return nil
}

func newSimulator(stateFile string, options simulator.Options) (*simulator.Simulator, error) {
	if stateFile == "" {
		return simulator.New(simulator.Demo(), options)
	}
	weChat, err := simulator.Open(stateFile, options)
	if err != nil {
		return nil, fmt.Errorf("--state: %w", err)
	}
	return weChat, nil
}

// forPeople shortens the log: the time of day is enough in a terminal, and the
// level says no more than the errcode.
func forPeople(_ []string, a slog.Attr) slog.Attr {
	switch a.Key {
	case slog.TimeKey:
		return slog.String(a.Key, a.Value.Time().Format(time.TimeOnly))
	case slog.LevelKey:
		return slog.Attr{}
	default:
		return a
	}
}

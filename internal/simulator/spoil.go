package simulator

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"slices"
	"strconv"
)

// What follows spoils an answer: what it says, or how it is written. spoilconn.go
// has what befalls the connection.

// rewrite makes an answer another one.
func rewrite(change func(*reply)) func(*victim, *reply) {
	return func(_ *victim, out *reply) { change(out) }
}

func busy(out *reply) { out.errcode, out.errmsg, out.body = -1, "system error", nil }

func processing(out *reply) { out.errcode, out.errmsg, out.body = 90016, "order is processing", nil }

func withoutErrcode(out *reply) {
	if out.body == nil {
		out.body = members{{"errmsg", out.errmsg}}
	}
	out.body = slices.DeleteFunc(out.body, func(m member) bool { return m.name == "errcode" })
}

// page answers as a gateway in front of WeChat would.
func page(status int) func(*victim, *reply) {
	html := []byte("<html><head><title>" + http.StatusText(status) + "</title></head><body></body></html>\n")
	return func(_ *victim, out *reply) {
		out.deliver = func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			w.Header().Set("Content-Type", "text/html")
			write(w, status, html)
		}
	}
}

func redirect(status int) func(*victim, *reply) {
	return func(_ *victim, out *reply) {
		out.deliver = func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			w.Header().Set("Location", "/simulator/nowhere")
			write(w, status, nil)
		}
	}
}

func empty(_ *victim, out *reply) {
	out.deliver = func(w http.ResponseWriter, _ *http.Request, _ []byte) { write(w, http.StatusOK, nil) }
}

func truncate(_ *victim, out *reply) {
	out.deliver = func(w http.ResponseWriter, _ *http.Request, text []byte) { write(w, http.StatusOK, half(text)) }
}

func gzipped(_ *victim, out *reply) {
	out.deliver = func(w http.ResponseWriter, _ *http.Request, text []byte) {
		w.Header().Set("Content-Encoding", "gzip")
		write(w, http.StatusOK, compress(text))
	}
}

func brokenGzip(_ *victim, out *reply) {
	out.deliver = func(w http.ResponseWriter, _ *http.Request, text []byte) {
		w.Header().Set("Content-Encoding", "gzip")
		write(w, http.StatusOK, half(compress(text)))
	}
}

func compress(text []byte) []byte {
	var compressed bytes.Buffer
	writer := gzip.NewWriter(&compressed)
	_, _ = writer.Write(text) // a buffer takes everything
	_ = writer.Close()
	return compressed.Bytes()
}

// half never cuts through a character: WeChat's texts, as ours, are ASCII.
func half(text []byte) []byte { return text[:len(text)/2] }

// write answers with a whole body, of the type that is set already.
func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone has gone
}

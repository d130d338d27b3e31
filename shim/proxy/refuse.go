package proxy

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"drydock/shim/message"
)

// unknownVersion is a client that says a version that the record does not have.
type unknownVersion struct {
	version string
	known   []string
}

func (e *unknownVersion) Error() string {
	return fmt.Sprintf("version %q is not known; known are %s", e.version, strings.Join(e.known, ", "))
}

// failed replies to a call that has no answer, in the client's protocol.
func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	status, kind, code := http.StatusBadGateway, "unreachable", uint32(14)
	body := []byte(nil)
	text := err.Error()
	var refusal *message.Refusal
	var unknown *unknownVersion
	switch {
	case errors.As(err, &refusal):
		status, body = refusal.Status(), refusal.Problem()
		code, text = refusal.GRPC()
	case errors.As(err, &unknown):
		status, kind, code = http.StatusBadRequest, "unknown-version", 3
	case errors.Is(err, errHeld):
		status, kind = http.StatusServiceUnavailable, "upgrading"
	case r.Context().Err() != nil:
		return // the client has gone
	default:
		p.log.Warn("the server cannot be reached", "path", r.URL.Path, "error", err)
	}
	if isGRPC(r.Header) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", fmt.Sprint(code))
		w.Header().Set("Grpc-Message", percent(text))
		w.WriteHeader(http.StatusOK)
		return
	}
	if body == nil {
		number, _ := message.NewNumber(fmt.Sprint(status))
		body = message.NewObject(message.Member{Name: "type", Value: message.NewString("urn:drydock:shim:" + kind)},
			message.Member{Name: "status", Value: number}, message.Member{Name: "detail", Value: message.NewString(text)}).AppendJSON(nil)
	}
	drain(w, r)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone does not read it
}

// What is read of a request that is refused, and for how long.
const (
	maxDrain  = 256 << 10
	drainTime = time.Second
)

// drain reads the rest of a small request before it is refused: over HTTP/2 an answer that comes first ends the stream while
// the client sends, which curl before 8 takes for an error.
func drain(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(drainTime)); err != nil {
		return
	}
	_, err := io.CopyN(io.Discard, r.Body, maxDrain)
	if errors.Is(err, io.EOF) {
		_ = control.SetReadDeadline(time.Time{}) // else the connection ends with this call
	}
}

func isGRPC(header http.Header) bool {
	kind, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	return kind == "application/grpc" || strings.HasPrefix(kind, "application/grpc+")
}

func setStatus(trailer http.Header, r *message.Refusal) {
	code, text := r.GRPC()
	trailer.Set("Grpc-Status", fmt.Sprint(code))
	trailer.Set("Grpc-Message", percent(text))
}

// percent encodes what gRPC does not let stand in a message: all but printable ASCII without the percent sign.
func percent(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

package people

import (
	"strings"
	"testing"

	"drydock/shim/module/resp"
)

// recorder is a host that keeps what it gets.
type recorder struct {
	toClient, toServer          strings.Builder
	passed, translated, refused int
}

func (r *recorder) ToClient(data []byte) { r.toClient.Write(data) }
func (r *recorder) ToServer(data []byte) { r.toServer.Write(data) }
func (r *recorder) Passed()              { r.passed++ }
func (r *recorder) Translated()          { r.translated++ }
func (r *recorder) Refused(bool, string) { r.refused++ }

// said writes a command as clients do.
func said(text string) string {
	var words [][]byte
	for _, w := range strings.Fields(text) {
		words = append(words, []byte(w))
	}
	return string(resp.Command(words...))
}

func TestACommandAndItsAnswerAreTranslated(t *testing.T) {
	for _, test := range []struct {
		down                          bool
		client, server, answer, gives string
	}{
		{false, "SET user:7:name Ada", "HSET user:7 name Ada", ":1\r\n", "+OK\r\n"},
		{false, "SET user:7:name Ada", "HSET user:7 name Ada", "-WRONGTYPE no hash\r\n", "-WRONGTYPE no hash\r\n"},
		{false, "GET user:7:name", "HGET user:7 name", "$3\r\nAda\r\n", "$3\r\nAda\r\n"},
		{false, "get user:7:name", "HGET user:7 name", "$-1\r\n", "$-1\r\n"},
		{false, "DEL user:7:name user:7:mail", "HDEL user:7 name mail", ":2\r\n", ":2\r\n"},
		{false, "MGET user:7:name user:7:mail", "HMGET user:7 name mail", "*2\r\n$1\r\na\r\n$-1\r\n", "*2\r\n$1\r\na\r\n$-1\r\n"},
		{false, "EXISTS user:7:name", "HEXISTS user:7 name", ":1\r\n", ":1\r\n"},
		{false, "PING", "PING", "+PONG\r\n", "+PONG\r\n"},
		{true, "HSET user:7 name Ada", "SET user:7:name Ada GET", "$-1\r\n", ":1\r\n"},
		{true, "HSET user:7 name Ada", "SET user:7:name Ada GET", "$3\r\nAda\r\n", ":0\r\n"},
		{true, "HGET user:7 mail", "GET user:7:mail", "$-1\r\n", "$-1\r\n"},
		{true, "HDEL user:7 name mail", "DEL user:7:name user:7:mail", ":1\r\n", ":1\r\n"},
		{true, "HGETALL user:7", "MGET user:7:name user:7:mail", "*2\r\n$3\r\nAda\r\n$-1\r\n", "*2\r\n$4\r\nname\r\n$3\r\nAda\r\n"},
		{true, "DEL user:7", "DEL user:7:name user:7:mail", ":2\r\n", ":1\r\n"},
		{true, "EXISTS user:7", "EXISTS user:7:name user:7:mail", ":0\r\n", ":0\r\n"},
		{true, "GET counter", "GET counter", "$1\r\n1\r\n", "$1\r\n1\r\n"},
	} {
		t.Run(test.client, func(t *testing.T) {
			r := &recorder{}
			c := New(r, test.down)
			for _, b := range []byte(said(test.client)) { // as it may come
				c.FromClient([]byte{b})
			}
			if got := r.toServer.String(); got != said(test.server) {
				t.Errorf("the server gets %q", got)
			}
			for _, b := range []byte(test.answer) {
				c.FromServer([]byte{b})
			}
			if got := r.toClient.String(); got != test.gives {
				t.Errorf("the client gets %q", got)
			}
			if r.passed+r.translated != 1 || r.refused != 0 {
				t.Errorf("counted %+v", r)
			}
		})
	}
}

func TestACommandThatMeansNothingThereIsRefusedInItsTurn(t *testing.T) {
	for _, test := range []struct {
		down   bool
		client string
	}{
		{false, "EXPIRE user:7:name 10"}, {false, "SET user:7:name Ada EX 10"}, {false, "GET user:7:age"}, {false, "MGET user:7:name user:8:name"},
		{false, "HGET user:7 name"}, {false, "KEYS *"}, {false, "MULTI"}, {false, "CLIENT REPLY OFF"}, {true, "HSET user:7 age 36"},
		{true, "HSET user:7 name Ada mail m"}, {true, "HINCRBY user:7 name 1"}, {true, "GET user:7:name"}, {true, "DEL user:7 user:8"}, {true, "HMGET user:7"},
	} {
		t.Run(test.client, func(t *testing.T) {
			r := &recorder{}
			c := New(r, test.down)
			c.FromClient([]byte(said("PING") + said(test.client) + said("ECHO x")))
			if r.toClient.Len() > 0 {
				t.Errorf("the refusal overtakes: %q", r.toClient.String())
			}
			c.FromServer([]byte("+PONG\r\n$1\r\nx\r\n"))
			lines := strings.SplitAfter(r.toClient.String(), "\r\n")
			if len(lines) != 5 || lines[0] != "+PONG\r\n" || !strings.HasPrefix(lines[1], "-DISALLOWED ") || lines[2] != "$1\r\n" {
				t.Errorf("the client gets %q", lines)
			}
			if r.refused != 1 || r.toServer.String() != said("PING")+said("ECHO x") {
				t.Errorf("%d refused, the server gets %q", r.refused, r.toServer.String())
			}
		})
	}
}

func TestAVersionThreeClientGetsAMapOfAPerson(t *testing.T) {
	r := &recorder{}
	c := New(r, true)
	c.FromClient([]byte(said("HELLO 3") + said("HGETALL user:7")))
	c.FromServer([]byte("%1\r\n$5\r\nproto\r\n:3\r\n>2\r\n+invalidate\r\n_\r\n*2\r\n$3\r\nAda\r\n_\r\n"))
	want := "%1\r\n$5\r\nproto\r\n:3\r\n>2\r\n+invalidate\r\n_\r\n%1\r\n$4\r\nname\r\n$3\r\nAda\r\n"
	if r.toClient.String() != want {
		t.Errorf("the client gets %q", r.toClient.String())
	}
}

func TestWhatIsNoCommandIsAnsweredAndNothingBehindItIsRead(t *testing.T) {
	r := &recorder{}
	c := New(r, false)
	c.FromClient([]byte("*1\r\n:5\r\n"))
	c.FromClient([]byte(said("PING")))
	if !strings.HasPrefix(r.toClient.String(), "-UNTRANSLATABLE ") || r.toServer.Len() > 0 {
		t.Errorf("client %q, server %q", r.toClient.String(), r.toServer.String())
	}
}

// However the bytes come, what is made of them is the same, and there is one answer or one command for each command.
func FuzzPieces(f *testing.F) {
	f.Add([]byte(said("SET user:7:name Ada")+"PING\r\n"+said("KEYS *")), uint8(3), false)
	f.Add([]byte(said("HGETALL user:7")+said("HSET user:1 name x")), uint8(1), true)
	f.Add([]byte("*2\r\n$-1\r\n"), uint8(2), true)
	f.Fuzz(func(t *testing.T, data []byte, piece uint8, down bool) {
		whole, parts := &recorder{}, &recorder{}
		New(whole, down).FromClient(data)
		c := New(parts, down)
		for rest := data; len(rest) > 0; {
			n := min(int(piece)+1, len(rest))
			c.FromClient(rest[:n])
			rest = rest[n:]
		}
		if whole.toServer.String() != parts.toServer.String() || whole.toClient.String() != parts.toClient.String() {
			t.Errorf("at once %q %q, in pieces %q %q", whole.toServer.String(), whole.toClient.String(), parts.toServer.String(), parts.toClient.String())
		}
	})
}

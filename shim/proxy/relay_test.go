package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"drydock/shim/module/moduletest"
	"drydock/shim/module/resp"
	"drydock/shim/record"
)

// store is as much of Redis as people need.
type store struct {
	mu     sync.Mutex
	hashes map[string]map[string]string
}

func newStore(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s := &store{hashes: map[string]map[string]string{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return l.Addr().String()
}

func (s *store) serve(c net.Conn) {
	defer c.Close()
	var data []byte
	buffer := make([]byte, 4096)
	for {
		n, err := c.Read(buffer)
		if err != nil {
			return
		}
		for data = append(data, buffer[:n]...); len(data) > 0; {
			v, err := resp.ParseCommand(data)
			if err != nil {
				break
			}
			data = data[len(v.Raw):]
			var words []string
			for _, item := range v.Items {
				words = append(words, string(item.Text))
			}
			_, _ = io.WriteString(c, s.do(words))
		}
	}
}

func (s *store) do(words []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case words[0] == "HSET" && len(words) == 4:
		if s.hashes[words[1]] == nil {
			s.hashes[words[1]] = map[string]string{}
		}
		s.hashes[words[1]][words[2]] = words[3]
		return ":1\r\n"
	case words[0] == "HGET" && len(words) == 3:
		value, ok := s.hashes[words[1]][words[2]]
		if !ok {
			return "$-1\r\n"
		}
		return string(resp.AppendText(nil, []byte(value)))
	default:
		return "-ERR unknown command " + words[0] + "\r\n"
	}
}

// connect is a client of a stream.
func connect(t *testing.T, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

func TestAnOldClientOfAStreamIsTranslatedAndANewOneSpliced(t *testing.T) {
	text, err := os.ReadFile("../../configs/services/people.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r, err := record.Parse("people.yaml", text, fstest.MapFS{"people.wasm": {Data: moduletest.Build(t, "../..", "shim/module/people/wasm")}})
	if err != nil {
		t.Fatal(err)
	}
	settings := Settings{Record: r, Server: newStore(t), Version: "v2"}
	p, address := start(t, settings, "v1")
	old, answers := connect(t, address)
	fmt.Fprint(old, "SET user:7:name Ada\r\nGET user:7:name\r\nEXPIRE user:7:name 9\r\nGET user:7:mail\r\n")
	for _, want := range []string{"+OK", "$3", "Ada", "-DISALLOWED v2 has no EXPIRE of a single field", "$-1"} {
		if got, err := answers.ReadString('\n'); err != nil || got != want+"\r\n" {
			t.Fatalf("%q, %v, expected %s", got, err, want)
		}
	}
	counts := p.Counts()
	if len(counts) != 1 || counts[0].Translated != 3 || counts[0].Disallowed != 1 {
		t.Errorf("counted %+v", counts)
	}
	_, direct := start(t, settings, "v2")
	young, answers := connect(t, direct)
	fmt.Fprint(young, "HGET user:7 name\r\n")
	for _, want := range []string{"$3", "Ada"} {
		if got, err := answers.ReadString('\n'); err != nil || got != want+"\r\n" {
			t.Fatalf("%q, %v, expected %s", got, err, want)
		}
	}
	// A client that ends its side gets the answers that it waits for, and then the end.
	fmt.Fprint(old, "GET user:7:name\r\n")
	if err := old.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(old); err != nil || string(rest) != "$3\r\nAda\r\n" {
		t.Errorf("the rest is %q, %v", rest, err)
	}
}

// hostile is a record whose module does what the first byte says.
func hostile(t *testing.T) *record.Record {
	t.Helper()
	text := `service: bad
protocol: stream
client: {default: v1}
versions: [v1, v2]
pairs:
  - between: [v1, v2]
    up: {module: {file: bad.wasm, memory: 16MiB, time: 500ms, fault: "-ERR it broke\r\n"}}
    down: none
    transform: none
    schedule: none
    disallowed: none
    transcripts: [{name: x, old: {sends: x, gets: x}, new: {sends: x, gets: x}}]
`
	r, err := record.Parse("bad.yaml", []byte(text), fstest.MapFS{"bad.wasm": {Data: moduletest.Build(t, "../..", "shim/module/moduletest/hostile")}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAModuleThatBreaksIsAnsweredCountedAndHurtsNobodyElse(t *testing.T) {
	p, address := start(t, Settings{Record: hostile(t), Server: newStore(t), Version: "v2"}, "v1")
	good, answers := connect(t, address)
	ask := func() {
		t.Helper()
		fmt.Fprint(good, "xyz\r\n")
		if got, err := answers.ReadString('\n'); err != nil || got != "-ERR unknown command xyz\r\n" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	ask()
	for i, data := range []string{"loops", "memory", "panics"} {
		bad, _ := connect(t, address)
		fmt.Fprint(bad, data)
		if got, err := io.ReadAll(bad); err != nil || string(got) != "-ERR it broke\r\n" {
			t.Errorf("%s: the client gets %q, %v", data, got, err)
		}
		if p.Faults() != uint64(i+1) {
			t.Errorf("%s: %d faults are counted", data, p.Faults())
		}
		ask()
	}
}

func TestASideThatDoesNotReadStopsTheOtherAndNothingIsLost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const size = 8 << 20
	counted := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		time.Sleep(300 * time.Millisecond)
		n, _ := io.Copy(io.Discard, c)
		counted <- n
		_ = c.Close()
	}()
	_, address := start(t, Settings{Record: hostile(t), Server: l.Addr().String(), Version: "v2"}, "v1")
	c, _ := connect(t, address)
	if _, err := io.Copy(c, strings.NewReader(strings.Repeat("x", size))); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n := <-counted; n != size {
		t.Errorf("%d bytes of %d came", n, size)
	}
}

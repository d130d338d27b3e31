// Package people translates between two versions of a service that keeps people in Redis, as a WebAssembly module (see wasm).
//
// In v1 each field of a person is a key of its own: user:7:name and user:7:mail. In v2 a person is a hash, user:7, with
// the fields name and mail. Commands that name no such key pass; those that name one and mean nothing in the other version are
// answered with an error, as are commands after which answers no longer follow requests one by one.
package people

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"drydock/shim/module/resp"
)

// Host is who carries the bytes.
type Host interface {
	ToClient(data []byte)
	ToServer(data []byte)
	// Passed, Translated and Refused count calls.
	Passed()
	Translated()
	Refused(disallowed bool, why string)
}

// fields are those that a person has in both versions.
var fields = []string{"name", "mail"}

const prefix = "user:"

// maxPending bounds the commands that a client sends before it reads answers.
const maxPending = 100_000

// Conn is one connection.
type Conn struct {
	host Host
	down bool
	// requests and replies have begun to come.
	requests, replies []byte
	pending           []answer
	// resp3 says that the client asked for version 3 of the protocol.
	resp3 bool
	// broken says that the client sent what is no command: nothing that follows is read.
	broken bool
}

// answer is one that the client waits for.
type answer struct {
	// change makes the client's answer of the server's; nil passes it.
	change func(resp.Value) []byte
	// own is the answer to a command that did not go to the server.
	own []byte
	// hello says that the answer tells the protocol's version.
	hello bool
}

// New begins a connection. Down says that its client speaks v2, and its server v1.
func New(host Host, down bool) *Conn { return &Conn{host: host, down: down} }

// FromClient takes commands.
func (c *Conn) FromClient(data []byte) {
	if c.broken {
		return
	}
	c.requests = append(c.requests, data...)
	for len(c.requests) > 0 {
		v, err := resp.ParseCommand(c.requests)
		if err == resp.ErrMore {
			return
		}
		if err == nil && len(c.pending) >= maxPending {
			err = errors.New("too many commands wait for their answers")
		}
		if err != nil {
			c.broken, c.requests = true, nil
			c.refuse(false, "no command: "+err.Error())
			return
		}
		c.command(v)
		c.requests = c.requests[len(v.Raw):]
	}
	c.requests = nil
}

// FromServer takes answers, in the order of their commands.
func (c *Conn) FromServer(data []byte) {
	c.replies = append(c.replies, data...)
	for len(c.replies) > 0 {
		v, err := resp.Parse(c.replies)
		if err == resp.ErrMore {
			return
		}
		if err != nil {
			c.replies = nil
			c.host.ToClient(resp.Error("DRYDOCK", "the server's answer cannot be read: "+err.Error()))
			return
		}
		c.reply(v)
		c.replies = c.replies[len(v.Raw):]
	}
	c.replies = nil
}

func (c *Conn) reply(v resp.Value) {
	if v.Kind == '>' || v.Kind == '|' || len(c.pending) == 0 { // not an answer
		c.host.ToClient(v.Raw)
		return
	}
	a := c.pending[0]
	c.pending = c.pending[1:]
	switch {
	case a.change == nil || v.Kind == '-' || v.Kind == '!':
		if a.hello {
			c.resp3 = v.Kind == '%'
		}
		c.host.ToClient(v.Raw)
	default:
		c.host.ToClient(a.change(v))
	}
	c.flush()
}

// flush sends our own answers whose turn it is.
func (c *Conn) flush() {
	for len(c.pending) > 0 && c.pending[0].own != nil {
		c.host.ToClient(c.pending[0].own)
		c.pending = c.pending[1:]
	}
}

func (c *Conn) refuse(disallowed bool, why string) {
	c.host.Refused(disallowed, why)
	code := "UNTRANSLATABLE"
	if disallowed {
		code = "DISALLOWED"
	}
	c.pending = append(c.pending, answer{own: resp.Error(code, why)})
	c.flush()
}

func (c *Conn) pass(v resp.Value, a answer) {
	c.host.Passed()
	c.pending = append(c.pending, a)
	c.host.ToServer(v.Raw)
}

func (c *Conn) translated(change func(resp.Value) []byte, words ...[]byte) {
	c.host.Translated()
	c.pending = append(c.pending, answer{change: change})
	c.host.ToServer(resp.Command(words...))
}

// unpaired are commands after which answers do not follow requests one by one, or that reach keys without naming them.
var unpaired = strings.Fields("MULTI EXEC DISCARD WATCH SUBSCRIBE PSUBSCRIBE SSUBSCRIBE MONITOR EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL FCALL_RO " +
	"KEYS SCAN RANDOMKEY SYNC PSYNC SORT SORT_RO")

func (c *Conn) command(v resp.Value) {
	if len(v.Items) == 0 {
		if v.Kind != 0 {
			c.host.ToServer(v.Raw) // Redis gives no answer to an empty command
		}
		return
	}
	name := strings.ToUpper(string(v.Items[0].Text))
	if slices.Contains(unpaired, name) || name == "CLIENT" && len(v.Items) > 1 && bytes.EqualFold(v.Items[1].Text, []byte("REPLY")) {
		c.refuse(true, name+" cannot be used while versions of people are mixed")
		return
	}
	arguments := make([][]byte, len(v.Items)-1)
	ours := false
	for i, item := range v.Items[1:] {
		arguments[i] = item.Text
		ours = ours || bytes.HasPrefix(item.Text, []byte(prefix))
	}
	switch {
	case !ours:
		c.pass(v, answer{hello: name == "HELLO"})
	case c.down:
		c.toKeys(name, arguments)
	default:
		c.toHash(name, arguments)
	}
}

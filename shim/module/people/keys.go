package people

import (
	"bytes"
	"slices"
	"strings"

	"drydock/shim/module/resp"
)

// single are commands on one field, as v1 and v2 call them, whose answers mean the same.
var single = []pair{{"GET", "HGET"}, {"DEL", "HDEL"}, {"EXISTS", "HEXISTS"}, {"STRLEN", "HSTRLEN"}}

type pair struct{ keys, hash string }

// toHash takes a command of v1 to v2.
func (c *Conn) toHash(name string, arguments [][]byte) {
	var people, names [][]byte
	if name != "SET" && name != "MGET" && !slices.ContainsFunc(single, func(s pair) bool { return s.keys == name }) {
		c.refuse(true, "v2 has no "+name+" of a single field")
		return
	}
	keys := arguments
	if name == "SET" {
		keys = arguments[:1]
	}
	for _, key := range keys {
		person, field, ok := split(key)
		if !ok || len(people) > 0 && !bytes.Equal(person, people[0]) {
			c.refuse(true, "v2 has nothing for "+name+" of "+string(key)+", or not beside others")
			return
		}
		people, names = append(people, person), append(names, field)
	}
	if name == "SET" && len(arguments) == 2 {
		c.translated(func(resp.Value) []byte { return []byte("+OK\r\n") }, []byte("HSET"), people[0], names[0], arguments[1])
		return
	}
	if name == "MGET" {
		c.translated(same, append([][]byte{[]byte("HMGET"), people[0]}, names...)...)
		return
	}
	for _, s := range single {
		if s.keys == name && (len(keys) == 1 || name == "DEL") {
			c.translated(same, append([][]byte{[]byte(s.hash), people[0]}, names...)...)
			return
		}
	}
	c.refuse(true, "v2 has no "+name+" of a single field with these arguments")
}

// split parts user:7:name.
func split(key []byte) (person, field []byte, ok bool) {
	at := bytes.LastIndexByte(key, ':')
	if !bytes.HasPrefix(key, []byte(prefix)) || at <= len(prefix) {
		return nil, nil, false
	}
	return key[:at], key[at+1:], slices.Contains(fields, string(key[at+1:]))
}

func same(v resp.Value) []byte { return v.Raw }

// toKeys takes a command of v2 to v1.
func (c *Conn) toKeys(name string, arguments [][]byte) {
	person, rest := arguments[0], arguments[1:]
	if !bytes.HasPrefix(person, []byte(prefix)) {
		c.refuse(true, "v1 has nothing for "+name+" with a person behind its first argument")
		return
	}
	all := make([][]byte, len(fields))
	for i, f := range fields {
		all[i] = []byte(string(person) + ":" + f)
	}
	switch {
	case (name == "DEL" || name == "EXISTS") && len(rest) == 0:
		c.translated(one, append([][]byte{[]byte(name)}, all...)...)
		return
	case name == "HGETALL" && len(rest) == 0:
		c.translated(c.everything, append([][]byte{[]byte("MGET")}, all...)...)
		return
	}
	names := rest
	if name == "HSET" && len(rest) == 2 {
		names = rest[:1]
	}
	keys := make([][]byte, len(names))
	for i, n := range names {
		if keys[i] = []byte(string(person) + ":" + string(n)); !slices.Contains(fields, string(n)) {
			c.refuse(true, "v1 has no "+string(n)+" of a person; it has "+strings.Join(fields, " and "))
			return
		}
	}
	switch {
	case name == "HSET" && len(rest) == 2:
		// SET with GET answers the value before (since Redis 6.2): so it is known whether the field is new.
		c.translated(isNew, []byte("SET"), keys[0], rest[1], []byte("GET"))
		return
	case name == "HMGET" && len(keys) > 0:
		c.translated(same, append([][]byte{[]byte("MGET")}, keys...)...)
		return
	}
	for _, s := range single {
		if s.hash == name && (len(keys) == 1 || name == "HDEL" && len(keys) > 1) {
			c.translated(same, append([][]byte{[]byte(s.keys)}, keys...)...)
			return
		}
	}
	c.refuse(true, "v1 has no "+name+" of a person, or not with these arguments")
}

// one makes 1 of any number above.
func one(v resp.Value) []byte {
	if string(v.Text) == "0" {
		return resp.Integer(0)
	}
	return resp.Integer(1)
}

func isNew(v resp.Value) []byte {
	if v.Null {
		return resp.Integer(1)
	}
	return resp.Integer(0)
}

// everything makes names and values of the values alone; a field that is not there is left out.
func (c *Conn) everything(v resp.Value) []byte {
	var out []byte
	count := 0
	for i, item := range v.Items {
		if !item.Null && i < len(fields) {
			out = resp.AppendText(resp.AppendText(out, []byte(fields[i])), item.Text)
			count++
		}
	}
	if c.resp3 {
		return append(resp.AppendHead(nil, '%', count), out...)
	}
	return append(resp.AppendHead(nil, '*', 2*count), out...)
}

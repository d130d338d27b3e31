package transfer

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// Protocol is the name under which both sides agree to speak this, in TLS's application-layer protocol negotiation.
const Protocol = "drydock-stream/1"

// Kind says what a connection carries.
type Kind string

const (
	// Images are CRIU's, of every container, spread over the connections.
	Images Kind = "images"
	// Files are passes over one directory tree.
	Files Kind = "files"
	// Pages is a CRIU page server's connection, carried through as it is.
	Pages Kind = "pages"
)

// Hello is the first message on a connection.
type Hello struct {
	Migration string `json:"migration"`
	Kind      Kind   `json:"kind"`
	// Name of the tree, or of the container for pages.
	Name string `json:"name,omitempty"`
}

const maxMessage = 1 << 20

// WriteMessage sends a value as JSON, preceded by its length.
func WriteMessage(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	buf := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(data)), uint32(len(data)))
	_, err = w.Write(append(buf, data...))
	return err
}

// ReadMessage reads what WriteMessage sent, and not a byte more.
func ReadMessage(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxMessage {
		return fmt.Errorf("message of %d bytes: at most %d are allowed", size, maxMessage)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// Answer ends what was asked on a connection.
type Answer struct {
	Bytes int64  `json:"bytes"`
	Error string `json:"error,omitempty"`
}

// Err is the other side's error.
func (a Answer) Err() error {
	if a.Error == "" {
		return nil
	}
	return fmt.Errorf("the other host says: %s", a.Error)
}

package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const (
	tokenPrefix = "drydock1"
	secretSize  = 32
)

// Token lets one host join, once. It carries the CA's pin, so that the host knows the controller before it trusts it.
type Token struct {
	Secret [secretSize]byte
	Pin    [sha256.Size]byte
}

// NewToken makes a random token for joining whoever the CA belongs to.
func NewToken(ca *CA) (Token, error) {
	token := Token{Pin: ca.Pin()}
	if _, err := rand.Read(token.Secret[:]); err != nil {
		return Token{}, fmt.Errorf("make a token: %w", err)
	}
	return token, nil
}

// ParseToken reads what String wrote. Its errors never hold the token.
func ParseToken(text string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	malformed := errors.New("join token is malformed: copy all of what `drydock host join` printed")
	if len(parts) != 3 || parts[0] != tokenPrefix {
		return Token{}, malformed
	}
	var token Token
	for i, into := range [][]byte{token.Secret[:], token.Pin[:]} {
		data, err := base64.RawURLEncoding.Strict().DecodeString(parts[i+1])
		if err != nil || len(data) != len(into) {
			return Token{}, malformed
		}
		copy(into, data)
	}
	return token, nil
}

// String is the token as it is handed to a host: a secret.
func (t Token) String() string {
	encode := base64.RawURLEncoding.EncodeToString
	return strings.Join([]string{tokenPrefix, encode(t.Secret[:]), encode(t.Pin[:])}, ".")
}

// Key is what a controller stores of the token; nobody can join with it.
func (t Token) Key() string {
	sum := sha256.Sum256(t.Secret[:])
	return hex.EncodeToString(sum[:])
}

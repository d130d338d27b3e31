package repository

import (
	"bytes"
	"crypto"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Key signs an archive.
type Key struct {
	entity *openpgp.Entity
}

// NewKey makes a key that is valid from a little before now on. It lives in memory only: an archive that is to be signed
// again needs it again.
func NewKey(now time.Time) (*Key, error) {
	entity, err := openpgp.NewEntity("archive of a lab", "", "lab@drydock.invalid", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, DefaultHash: crypto.SHA512, Time: func() time.Time { return now.Add(-time.Hour) },
	})
	if err != nil {
		return nil, fmt.Errorf("make the archive's key: %w", err)
	}
	return &Key{entity}, nil
}

// Public is the key's public half as hosts keep it, in a file whose name ends in .asc.
func (k *Key) Public() (string, error) {
	var text bytes.Buffer
	w, err := armor.Encode(&text, openpgp.PublicKeyType, nil)
	if err == nil {
		err = k.entity.Serialize(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return "", fmt.Errorf("write the archive's key: %w", err)
	}
	return text.String() + "\n", nil
}

// sign is the text with its signature around it.
func (k *Key) sign(text string, now time.Time) ([]byte, error) {
	var signed bytes.Buffer
	w, err := clearsign.Encode(&signed, k.entity.PrivateKey, &packet.Config{
		DefaultHash: crypto.SHA512, Time: func() time.Time { return now },
	})
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("sign the archive: %w", err)
	}
	return append(signed.Bytes(), '\n'), nil
}

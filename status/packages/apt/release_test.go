package apt

import (
	"strings"
	"testing"
)

const signedFile = `-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA512

Label: Debian
Date: Sat, 21 Nov 2026 10:00:00 UTC
- -----
-----BEGIN PGP SIGNATURE-----

abc
-----END PGP SIGNATURE-----
`

func TestOnlyWhatASignatureCoversIsRead(t *testing.T) {
	got, err := signedPart([]byte(signedFile))
	if want := "Label: Debian\nDate: Sat, 21 Nov 2026 10:00:00 UTC\n-----\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	for name, text := range map[string]string{
		"before it":        "Label: Evil\n" + signedFile,
		"after it":         signedFile + "Label: Evil\n",
		"a second message": strings.Replace(signedFile, "Label", "-----BEGIN PGP SIGNED MESSAGE-----\nLabel", 1),
		"a head":           strings.Replace(signedFile, "Hash:", "Label: Evil\nHash:", 1),
		"no end":           strings.Replace(signedFile, "-----END", "-----", 1),
		"no signature":     strings.Replace(signedFile, "-----BEGIN PGP SIGNATURE-----", "", 1),
		"nothing":          "",
	} {
		if got, err := signedPart([]byte(text)); err == nil {
			t.Errorf("%s: read %q", name, got)
		}
	}
}

func TestAReleaseFileMustSayWhenItWasMadeAndVouchForIndexes(t *testing.T) {
	const whole = "Label: Debian\nDate: Sat, 01 Nov 2026 10:00:00 +0000\nValid-Until: Sat, 8 Nov 2026 10:00:00 UTC\nSHA256:\n abcd 12 main/binary-amd64/Packages\n"
	r, err := parseRelease([]byte(whole))
	if err != nil || r.date.Day() != 1 || r.validUntil.Day() != 8 || r.files["main/binary-amd64/Packages"] != (indexSum{"abcd", 12}) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, line := range []string{"Date: Sat, 01 Nov 2026 10:00:00 +0000\n", "SHA256:\n abcd 12 main/binary-amd64/Packages\n"} {
		if r, err := parseRelease([]byte(strings.Replace(whole, line, "", 1))); err == nil {
			t.Errorf("without %q: %+v", line, r)
		}
	}
	for _, more := range []string{"Date: x\n", "no field\n", "SHA256:\n"} {
		if r, err := parseRelease([]byte(whole + more)); err == nil {
			t.Errorf("with %q: %+v", more, r)
		}
	}
}

package images

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"io"
	"io/fs"
	"math/rand/v2"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

var (
	//go:embed files/postgres-start.sh
	postgresStart []byte
	//go:embed files/postgresql.conf
	postgresConf []byte
	//go:embed files/pg_hba.conf
	postgresAccess []byte
	//go:embed files/nginx.conf
	nginxConf []byte
)

// DataSize is the size in bytes of /data.bin in the nginx image.
const DataSize = 32 << 20

const path = "/usr/lib/postgresql/current/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// recipe is one image on top of the Debian root.
type recipe struct {
	name   string
	files  []file // but for the self-checking program, which is compiled
	check  bool   // holds the self-checking program
	config v1.Config
}

func recipes() []recipe {
	return []recipe{
		{
			name: Redis,
			config: v1.Config{
				User:       "redis",
				Entrypoint: []string{"/usr/bin/redis-server"},
				Cmd:        []string{"--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--logfile", ""},
				WorkingDir: "/var/lib/redis",
			},
		},
		{
			name: Postgres,
			files: []file{
				{path: "/usr/local/bin/postgres-start", mode: 0o755, content: postgresStart},
				{path: "/etc/postgresql/drydock.conf", mode: 0o644, content: postgresConf},
				{path: "/etc/postgresql/drydock_hba.conf", mode: 0o644, content: postgresAccess},
			},
			config: v1.Config{
				User:       "postgres",
				Entrypoint: []string{"/usr/local/bin/postgres-start"},
				Env:        []string{"PGDATA=" + PostgresData},
				WorkingDir: "/var/lib/postgresql",
				StopSignal: "SIGINT",
			},
		},
		{
			name: Nginx,
			files: []file{
				{path: "/etc/nginx/drydock.conf", mode: 0o644, content: nginxConf},
				{path: "/srv/www", mode: fs.ModeDir | 0o755},
				{path: "/srv/www/data.bin", mode: 0o644, write: writeData, size: DataSize},
			},
			config: v1.Config{
				User:       "www-data",
				Entrypoint: []string{"/usr/sbin/nginx", "-e", "stderr", "-c", "/etc/nginx/drydock.conf"},
				WorkingDir: "/srv/www",
				StopSignal: "SIGQUIT",
			},
		},
		{
			name:  Workbench,
			check: true,
			config: v1.Config{
				Entrypoint: []string{"/usr/local/bin/selfcheck"},
				Cmd:        []string{"--listen", ":7070"},
				WorkingDir: "/root",
				Env:        []string{"HOME=/root"},
			},
		},
	}
}

// writeData writes the bytes of /data.bin: ChaCha8 with an all-zero seed, the same on every machine.
func writeData(w io.Writer) error {
	_, err := io.CopyN(w, rand.NewChaCha8([32]byte{}), DataSize)
	return err
}

// DataSHA256 returns the checksum of /data.bin of the nginx image in hexadecimal, computed here and not read from anywhere.
func DataSHA256() string {
	sum := sha256.New()
	_ = writeData(sum) // neither side of it can fail
	return hex.EncodeToString(sum.Sum(nil))
}

// ids finds the numbers of a user in a passwd file.
func ids(passwd []byte, user string) (uid, gid string, found bool) {
	for line := range bytes.Lines(passwd) {
		fields := bytes.Split(bytes.TrimSpace(line), []byte(":"))
		if len(fields) > 3 && string(fields[0]) == user {
			return string(fields[2]), string(fields[3]), true
		}
	}
	return "", "", false
}

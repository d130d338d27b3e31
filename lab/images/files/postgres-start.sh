#!/bin/sh
# Makes the cluster at the first start, then becomes PostgreSQL.
set -eu
: "${PGDATA:=/var/lib/postgresql/data}"
config=/etc/postgresql/drydock.conf
if [ ! -e "$PGDATA/PG_VERSION" ]; then
	if [ ! -w "$PGDATA" ]; then
		echo "postgres-start: $PGDATA is not writable for $(id -un): give the volume to uid $(id -u), gid $(id -g)" >&2
		exit 1
	fi
	# An earlier first start may have been cut short: PG_VERSION was written to the side, so what is here is not a cluster.
	rm -rf "$PGDATA/.new"
	initdb --pgdata="$PGDATA/.new" --username=postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync --no-instructions
	for entry in "$PGDATA/.new"/*; do
		[ "${entry##*/}" = PG_VERSION ] && continue
		rm -rf "$PGDATA/${entry##*/}"
		mv "$entry" "$PGDATA/"
	done
	sync "$PGDATA"
	mv "$PGDATA/.new/PG_VERSION" "$PGDATA/"
	rmdir "$PGDATA/.new"
	chmod 0700 "$PGDATA"
fi
set -- "$@" -c config_file="$config"
# io_uring is denied to pods and cannot be moved; the setting is known from version 18 on.
if [ "$(cut -d. -f1 "$PGDATA/PG_VERSION")" -ge 18 ]; then
	set -- "$@" -c io_method=worker
fi
exec postgres -D "$PGDATA" "$@"

set -eu
root=$1
# A stable path, whatever the version is.
ln -s "$(ls "$root/usr/lib/postgresql")" "$root/usr/lib/postgresql/current"
# What no pod uses: just-in-time compilation, Perl and what wraps programs in it, conversions between old encodings,
# sources of locales, and package lists.
rm -rf "$root"/usr/lib/postgresql/*/lib/bitcode "$root"/usr/lib/postgresql/*/lib/llvmjit* \
	"$root"/usr/lib/*-linux-gnu/libLLVM* "$root"/usr/lib/*-linux-gnu/libz3.so* \
	"$root"/usr/lib/*-linux-gnu/perl "$root"/usr/lib/*-linux-gnu/perl-base "$root"/usr/lib/*-linux-gnu/libperl* \
	"$root"/usr/share/perl "$root"/usr/share/perl5 "$root"/usr/bin/perl* "$root"/usr/bin/cpan* \
	"$root"/usr/lib/*-linux-gnu/gconv "$root"/usr/share/i18n \
	"$root"/usr/share/postgresql-common "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/info \
	"$root"/usr/share/locale "$root"/usr/share/lintian "$root"/usr/share/bash-completion \
	"$root"/var/lib/apt "$root"/var/cache "$root"/var/log "$root"/var/lib/dpkg/info "$root"/etc/apt
mkdir -p "$root/var/cache" "$root/var/log" "$root/var/lib/dpkg/info"
# Whatever differs from one build to the next.
rm -f "$root"/etc/machine-id "$root"/etc/hostname "$root"/etc/resolv.conf "$root"/etc/ssl/private/* "$root"/etc/ssl/certs/ssl-cert* \
	"$root"/var/lib/dpkg/*-old "$root"/var/lib/dpkg/lock*
find "$root/dev" "$root/tmp" "$root/run" -xdev -mindepth 1 -delete

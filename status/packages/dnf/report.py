# Asks dnf, through its own library and without the network, for its repositories, the updates that it would choose and their
# advisories. Run by the Python that dnf itself runs in. Takes JSON (config, installroot, releasever) as its argument, writes JSON.
import json
import sys

import dnf
import hawkey

given = json.loads(sys.argv[1])
base = dnf.Base()
if given["config"]:
    base.conf.config_file_path = given["config"]
if given["installroot"]:
    base.conf.installroot = given["installroot"]
base.conf.read()
base.conf.releasever = given["releasever"] or dnf.rpm.detect_releasever(base.conf.installroot) or ""
if given["installroot"]:
    for option in ("cachedir", "logdir", "persistdir"):
        base.conf.prepend_installroot(option)
base.conf.substitutions.update_from_etc(base.conf.installroot)
base.read_all_repos()

result = {"repos": [], "updates": [], "kernels": [], "core": [], "errors": []}
for repo in base.repos.iter_enabled():
    result["repos"].append({
        "id": repo.id, "file": repo.repofile, "uri": (list(repo.baseurl) + [repo.metalink or repo.mirrorlist or ""])[0],
        "dir": repo._repo.getCachedir(), "repo_gpgcheck": bool(repo.repo_gpgcheck), "keys": list(repo.gpgkey),
        "expire": repo.metadata_expire, "name": repo.name,
    })
    # What lies here is asked, however old: its age is judged elsewhere.
    repo._repo.setSyncStrategy(dnf.repo.SYNC_ONLY_CACHE)
    repo.skip_if_unavailable = True

base.fill_sack(load_system_repo=True, load_available_repos=True)
installed = base.sack.query().installed()
available = base.sack.query().available()


def newest_installed(name, arch):
    found = installed.filter(name=name, arch=arch).latest().run()
    return found[0] if found else None


def advisories(old, new):
    """Those of versions above the installed one, up to the new one."""
    found, security = set(), False
    for advisory in (old or new).get_advisories(hawkey.GT if old else hawkey.EQ):
        for p in advisory.packages:
            if p.name != new.name or p.arch != new.arch:
                continue
            if base.sack.evr_cmp(p.evr, new.evr) <= 0 and (old is None or base.sack.evr_cmp(p.evr, old.evr) > 0):
                found.add(advisory.id)
                found.update(r.id for r in advisory.references if r.type == hawkey.REFERENCE_CVE)
                security = security or advisory.type == hawkey.ADVISORY_SECURITY
    return sorted(found), security


chosen = set()
try:
    base.upgrade_all()
    base.resolve()
    chosen = set(base.transaction.install_set)
except dnf.exceptions.Error as e:
    result["errors"].append("dnf cannot tell what it would install: %s" % e)
wanted = {(p.name, p.arch): p for p in available.upgrades().latest().run()}
wanted.update({(p.name, p.arch): p for p in chosen})
for (name, arch), new in sorted(wanted.items()):
    old = newest_installed(name, arch)
    ids, security = advisories(old, new)
    result["updates"].append({
        "name": name, "arch": arch, "from": old.evr if old else "", "to": new.evr, "chosen": new in chosen,
        "advisories": ids, "security": security,
    })

for p in sorted(installed.run(), reverse=True):
    entry = {"name": p.name, "evr": p.evr, "arch": p.arch, "release": "%s-%s.%s" % (p.version, p.release, p.arch), "at": p.installtime}
    if p.name in ("kernel-core", "kernel-rt-core", "kernel-uek-core"):
        result["kernels"].append(entry)
    if p.name in ("glibc", "systemd", "dbus", "dbus-daemon", "dbus-broker", "linux-firmware", "microcode_ctl"):
        result["core"].append(entry)
json.dump(result, sys.stdout)

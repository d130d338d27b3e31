# Tells dnf's repositories and, unless only those are asked for, the updates that it would choose and their advisories, as JSON.
result = {"repos": [], "updates": [], "kernels": [], "core": [], "duplicates": [], "errors": []}
for repo in know_repositories():
    result["repos"].append({
        "id": repo.id, "file": repo.repofile, "uri": (list(repo.baseurl) + [repo.metalink or repo.mirrorlist or ""])[0],
        "dir": repo._repo.getCachedir(), "repo_gpgcheck": bool(repo.repo_gpgcheck), "keys": list(repo.gpgkey),
        "expire": repo.metadata_expire, "name": repo.name,
    })
if given["only_repositories"]:
    json.dump(result, sys.stdout)
    sys.exit(0)
base.fill_sack(load_system_repo=True, load_available_repos=True)
installed = base.sack.query().installed()
available = base.sack.query().available()
kept_back = locked()


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
        "advisories": ids, "security": security, "held": new in kept_back,
    })

for p in sorted(installed.run(), reverse=True):
    entry = {"name": p.name, "evr": p.evr, "arch": p.arch, "release": "%s-%s.%s" % (p.version, p.release, p.arch), "at": p.installtime}
    if p.name in given["kernels"]:
        result["kernels"].append(entry)
    if p.name in given["core"]:
        result["core"].append(entry)
for found in duplicates():
    result["duplicates"].append([str(p) for p in found])
json.dump(result, sys.stdout)

# Tells what installing packages at exactly given versions would do, as JSON. Nothing is installed.
base.conf.best = True
base.conf.installonly_limit = 0  # a patch removes nothing, old kernels neither
open_repositories()
installed = base.sack.query().installed()
available = base.sack.query().available()
result = {"items": [], "removed": [], "problem": ""}


def nevra(p):
    return {"name": p.name, "arch": p.arch, "evr": p.evr}


def newest(name, arch):
    """The newest installed version; a package may change between an architecture and none."""
    found = installed.filter(name=name, arch=[arch, "noarch"] if arch != "noarch" else None) if arch != "noarch" else installed.filter(name=name)
    return max(found, default=None)


def describe(new, others):
    old = newest(new.name, new.arch)
    needed = [q for q in others if q != new and base.sack.query().filter(pkg=[new], provides=q.requires + q.recommends)]
    return dict(nevra(new), **{
        "from": old.evr if old else "", "size": new.installsize, "was": old.installsize if old else 0,
        "needed_by": "%s %s" % (needed[0].name, needed[0].evr) if needed else "",
    })


try:
    for want in given["wanted"]:
        found = available.filter(name=want["name"], arch=want["arch"], evr=want["evr"])
        if not found:
            raise dnf.exceptions.Error("no repository that lies here offers %(name)s %(evr)s" % want)
        selector = dnf.selector.Selector(base.sack)
        selector.set(pkg=found)
        base._goal.install(select=selector, optional=False)
    base.resolve()
    items = list(base.transaction or [])
    new = sorted(base.transaction.install_set) if items else []
    result["items"] = [describe(p, new) for p in new]
    result["removed"] = sorted(str(i.pkg) for i in items if i.action in (
        dnf.transaction.PKG_REMOVE, dnf.transaction.PKG_OBSOLETED, dnf.transaction.PKG_DOWNGRADED))
    kernels = [p for p in list(installed) + new if p.name in given["kernels"]]
    if kernels:
        result["newest"] = nevra(max(kernels))
except dnf.exceptions.Error as e:
    result["problem"] = str(e).strip()
json.dump(result, sys.stdout)

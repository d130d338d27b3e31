# Tells what installing packages at exactly given versions would do, as JSON. Nothing is installed.
import dnf.selector

base.conf.best = True
base.conf.installonly_limit = 0  # a patch removes nothing, old kernels neither
open_repositories()
installed = base.sack.query().installed()
available = base.sack.query().available()
result = {"items": [], "removed": [], "problem": ""}


def nevra(p):
    return {"name": p.name, "arch": p.arch, "evr": p.evr}


def describe(new, needs):
    # A package may change between an architecture and none.
    old = max((p for p in installed.filter(name=new.name) if p.arch == new.arch or "noarch" in (p.arch, new.arch)), default=None)
    by = needs.get(new)
    return dict(nevra(new), **{
        "from": old.evr if old else "", "size": new.installsize, "was": old.installsize if old else 0,
        "needed_by": "%s %s" % (by.name, by.evr) if by else "",
    })


def needed(packages):
    """Which of packages is needed by which other, if any."""
    by = {}
    for p in packages:
        for other in base.sack.query().filter(pkg=packages, provides=p.requires + p.recommends):
            if other != p:
                by.setdefault(other, p)
    return by


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
    needs = needed(new)
    result["items"] = [describe(p, needs) for p in new]
    result["removed"] = sorted(str(i.pkg) for i in items if i.action in (
        dnf.transaction.PKG_REMOVE, dnf.transaction.PKG_OBSOLETED, dnf.transaction.PKG_DOWNGRADED))
    kernels = [p for p in list(installed) + new if p.name in given["kernels"]]
    if kernels:
        result["newest"] = nevra(max(kernels))
except dnf.exceptions.Error as e:
    result["problem"] = str(e).strip()
json.dump(result, sys.stdout)

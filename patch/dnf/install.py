# Installs package files, and nothing else. Packages that are installed at the same version already are installed anew, older
# versions of them that lie beside are removed. What it does is reported in file 3, a line of JSON at a time. What rpm does not
# remember is written to the file unfinished: packages of which not every script is known to have ended well.
import logging
import re

import dnf.yum.rpmtrans
import libdnf.transaction

logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
base.conf.best = True
base.conf.clean_requirements_on_remove = False
base.conf.install_weak_deps = False
base.conf.installonly_limit = 0
base.conf.keepcache = True  # the cache is not this run's to clean
ACTIVITIES = {
    dnf.transaction.PKG_UPGRADED: "cleans up after", dnf.transaction.PKG_REINSTALLED: "cleans up after", dnf.transaction.PKG_REMOVE: "removes",
    dnf.transaction.PKG_SCRIPTLET: "runs a script of",
}
report = os.fdopen(3, "w")


def tell(**what):
    report.write(json.dumps(what) + "\n")
    report.flush()


def refuse(text):
    print(text, flush=True)
    tell(refused=text)
    sys.exit(1)


def note(entries):
    """Writes down what is unfinished, whole or not at all."""
    path = given["unfinished"]
    with open(path + ".new", "w") as f:
        json.dump(entries, f)
        f.flush()
        os.fsync(f.fileno())
    os.rename(path + ".new", path)
    directory = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


class Display(dnf.yum.rpmtrans.TransactionDisplay):
    """Hears what scripts say, and then whether they failed."""

    def __init__(self):
        super().__init__()
        self.words, self.failed = [], []

    def progress(self, package, action, ti_done, ti_total, ts_done, ts_total):
        if package and ts_total and action != dnf.transaction.PKG_VERIFY:
            tell(percent=int(100 * (ts_done - 1) / ts_total), activity="%s %s" % (ACTIVITIES.get(action, "installs"), package))

    def scriptout(self, msgs):
        if msgs:
            self.words = [line.strip() for line in dnf.i18n.ucd(msgs).splitlines()][-4:]

    def error(self, message):
        print(message, flush=True)
        found = re.match(r"Error in (\S+) scriptlet in rpm package (\S+)", message)
        name, script = (found[2], found[1]) if found else ("", "")
        self.failed.append({"name": name, "script": script, "words": message if not found else " / ".join(self.words)})


base.fill_sack(load_system_repo=True, load_available_repos=False)
wanted = base.add_remote_rpms(given["files"])
installed = base.sack.query().installed()
anew = {(p.name, p.arch, p.evr) for p in wanted}
stale = [p for found in duplicates() for p in found[1:]]
try:
    for p in wanted:
        if installed.filter(name=p.name, arch=p.arch, evr=p.evr):
            base.package_reinstall(p)
        else:
            base._goal.install(p)
    for p in stale:
        if (p.name, p.arch, p.evr) not in anew:  # that takes the place of all that are the same
            base.package_remove(p)
    base.resolve(allow_erasing=bool(stale))
except dnf.exceptions.Error as e:
    refuse("dnf cannot install the patch: %s" % e)
items = list(base.transaction or [])
for i in items:
    if i.action in dnf.transaction.FORWARD_ACTIONS and i.pkg not in wanted:
        refuse("dnf would install %s, which is not part of the patch: the host has changed since" % i.pkg)
    if i.action in (dnf.transaction.PKG_REMOVE, dnf.transaction.PKG_OBSOLETED, dnf.transaction.PKG_DOWNGRADED) and i.pkg not in stale:
        refuse("dnf would remove %s, and a patch removes nothing" % i.pkg)
    if i.action == dnf.transaction.PKG_INSTALL and not installed.filter(name=i.name):
        i.reason = libdnf.transaction.TransactionItemReason_DEPENDENCY  # it comes because others need it

before = [e for e in given["entries"] if (e["name"], e["arch"], e["evr"]) not in anew]
cut = [{"name": p.name, "arch": p.arch, "evr": p.evr, "tid": base._ts.ts.tid, "why": "its installation was cut off"} for p in wanted]
display = Display()
note(before + cut)
try:
    base.do_transaction(display)
except dnf.exceptions.Error as e:
    note(given["entries"])  # it did not begin
    refuse("dnf cannot install the patch: %s" % e)
failed = {f["name"]: "its %(script)s script failed: %(words)s" % f for f in display.failed if f["script"] not in ("PREUN", "POSTUN")}
note(before + [dict(c, why=failed[c["name"]]) for c in cut if c["name"] in failed])
tell(percent=100, activity="ended", failed=display.failed)

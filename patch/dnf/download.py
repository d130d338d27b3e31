# Fetches package files at exactly given versions and sums into a directory, and has rpm verify their signatures where the host's
# configuration wants that. What it does is reported in file 3, a line of JSON at a time.
import dnf.callback

base.conf.deltarpm = False
report = os.fdopen(3, "w")


def tell(**what):
    report.write(json.dumps(what) + "\n")
    report.flush()


def refuse(text, remedy):
    print(text, flush=True)
    tell(refused=text, remedy=remedy)
    sys.exit(1)


class Progress(dnf.callback.DownloadProgress):
    def __init__(self):
        self.total, self.done = 1, {}

    def start(self, total_files, total_size, total_drpms=0):
        self.total = total_size or 1

    def progress(self, payload, done):
        self.done[str(payload)] = done
        tell(percent=int(100 * sum(self.done.values()) / self.total), activity="fetches %s" % payload)

    def end(self, payload, status, msg):
        if msg:
            print("%s: %s" % (payload, msg), flush=True)


def verify(p):
    """Takes keys only that the host's administrator has put on the host."""
    result, text = base.package_signature_check(p)
    if result == 1 and p.repo.gpgkey and all(key.startswith("file:") for key in p.repo.gpgkey):
        try:
            base.package_import_key(p, askcb=lambda *asked: True)
        except dnf.exceptions.Error as e:
            refuse("the signature of %s is not good: %s" % (p, " ".join(str(e).split())),
                   "see who answers in the place of repository %s; where the package's key is another one, name it by gpgkey in %s" % (p.repoid, p.repo.repofile))
        result, text = base.package_signature_check(p)
    if result:
        refuse("the signature of %s is not good: %s" % (p, text),
               "see who answers in the place of repository %s; where its key is not known to rpm, run `rpm --import` with it on the host" % p.repoid)


open_repositories()
packages = []
for want in given["wanted"]:
    found = [p for p in base.sack.query().available().filter(name=want["name"], arch=want["arch"], evr=want["evr"])
             if p.chksum and p.chksum[1].hex() == want["sha256"]]
    if not found:
        refuse("no repository that lies here offers %(name)s %(evr)s as the patch has it" % want, "resolve the patch again")
    packages.append(found[0])
for repo in base.repos.iter_enabled():
    if not repo._repo.isLocal():
        repo.pkgdir = given["dir"]
try:
    base.download_packages(packages, Progress())
    for p in packages:
        if p.repo.gpgcheck:
            verify(p)
except dnf.exceptions.Error as e:
    refuse("dnf cannot fetch the patch: %s" % " ".join(str(e).split()), "bring the repository back, or resolve the patch again")
tell(files=[p.localPkg() for p in packages])

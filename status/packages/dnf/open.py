# Opens dnf's library as the host is configured, without the network. What follows runs in the Python that dnf itself runs in,
# takes JSON (config, installroot, releasever and more) as its input, and knows it as given.
import configparser
import json
import os
import sys

import dnf
import dnf.exceptions
import dnf.rpm
import dnf.rpm.transaction
import dnf.subject
import hawkey
import rpm

given = json.load(sys.stdin)
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


def know_repositories():
    """All repositories, those of which nothing lies here too. What lies here is taken however old: its age is judged elsewhere."""
    base.read_all_repos()
    repositories = list(base.repos.iter_enabled())
    for repo in repositories:
        repo._repo.setSyncStrategy(dnf.repo.SYNC_ONLY_CACHE)
        repo.skip_if_unavailable = True
    return repositories


def open_repositories():
    know_repositories()
    base.fill_sack(load_system_repo=True, load_available_repos=True)


def duplicates():
    """Installed packages of one name and architecture, newest first, of which only one should be there."""
    installed = base.sack.query().installed()
    single = installed.difference(base._get_installonly_query(installed))
    return [sorted(found, reverse=True) for found in single._na_dict().values() if len(found) > 1]


def locked():
    """The packages that versionlock's list keeps from being installed. Its plugin, like every other, is not loaded."""
    path = os.path.join(base.conf.installroot, "etc/dnf/plugins/versionlock.list")
    config = configparser.ConfigParser()
    if config.read(os.path.join(base.conf.installroot, "etc/dnf/plugins/versionlock.conf")):
        path = config.get("main", "locklist", fallback=path)
        if not config.getboolean("main", "enabled", fallback=True):
            return set()
    try:
        with open(path) as listed:
            lines = [line.strip() for line in listed]
    except FileNotFoundError:
        lines = []
    names, kept, refused = set(), set(), set()
    for line in lines:
        if not line or line.startswith("#"):
            continue
        pattern = line.lstrip("!")
        matching = dnf.subject.Subject(pattern).get_best_query(base.sack, with_nevra=True, with_provides=False, with_filenames=False)
        if line.startswith("!"):
            refused.update(matching)
            continue
        kept.update(matching)
        names.update(n.name for n in dnf.subject.Subject(pattern).get_nevra_possibilities(forms=hawkey.FORM_NEVRA))
        names.update(p.name for p in matching)
    return refused.union(p for p in base.sack.query().available() if p.name in names and p not in kept)

# Tells all installed packages as rpm has them, as JSON: the transaction that brought each, and how dnf came to it.
base.fill_sack(load_system_repo=True, load_available_repos=False)
installed = base.sack.query().installed()
several = set(base._get_installonly_query(installed))
ts = dnf.rpm.transaction.initReadOnlyTransaction(base.conf.installroot)
tids = {header[rpm.RPMTAG_DBINSTANCE]: header[rpm.RPMTAG_INSTALLTID] for header in ts.dbMatch()}
json.dump([{
    "name": p.name, "arch": p.arch, "evr": p.evr, "reason": p.reason, "several": p in several, "tid": tids[p.rpmdbid], "id": p.rpmdbid,
} for p in sorted(installed)], sys.stdout)

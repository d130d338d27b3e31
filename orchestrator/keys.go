package orchestrator

// Where things are in the store.
const (
	keyRoot       = "/drydock/v1/"
	keyCA         = keyRoot + "ca"
	keyLeader     = keyRoot + "leader"
	keyHosts      = keyRoot + "hosts/"
	keyReports    = keyRoot + "reports/"
	keyStatuses   = keyRoot + "statuses/"
	keyTokens     = keyRoot + "tokens/"
	keyPods       = keyRoot + "pods/"
	keyOwners     = keyRoot + "owners/"
	keyAddresses  = keyRoot + "addresses/"
	keyImages     = keyRoot + "images/"
	keyMigrations = keyRoot + "migrations/"
	keyLinks      = keyRoot + "links/"
	keyNetwork    = keyRoot + "network"
	keyUsers      = keyRoot + "users/"
)

func hostKey(name string) string       { return keyHosts + name }
func reportKey(name string) string     { return keyReports + name }
func statusKey(name string) string     { return keyStatuses + name }
func podKey(name string) string        { return keyPods + name }
func addressKey(address string) string { return keyAddresses + address }
func imageKey(reference string) string { return keyImages + reference }
func migrationKey(id string) string    { return keyMigrations + id }
func linkKey(a, b string) string       { return keyLinks + a + "/" + b }
func userKey(name string) string       { return keyUsers + name }
func tokenKey(key string) string       { return keyTokens + key }

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Set this to have the golden files written anew; then read the difference.
const updateGolden = "DRYDOCK_UPDATE_GOLDEN"

func TestEveryCommandSaysWhatTheGoldenFilesSay(t *testing.T) {
	for _, file := range goldenCases() {
		t.Run(file.name, func(t *testing.T) {
			p := newPool(t)
			write(t, filepath.Join(p.dir, "image.tar"), "archive of an image")
			write(t, filepath.Join(p.dir, "broken.tar"), "nonsense")
			write(t, filepath.Join(p.dir, "pod.yaml"), podYAML)
			write(t, filepath.Join(p.dir, "bad-pod.yaml"), strings.Replace(podYAML, "containers:", "hostNetwork: true\n  containers:", 1))
			write(t, filepath.Join(p.dir, "good.yaml"), "output: json\ntimeout: 5s\n")
			write(t, filepath.Join(p.dir, "bad.yaml"), "server: unix:///x\nservre: unix:///y\n")
			write(t, filepath.Join(p.dir, "agent.yaml"), "name: h1\nlisten: 10.77.0.11:7441\ncontroller: [https://10.77.0.1:7440]\n")
			write(t, filepath.Join(p.dir, "controller.yaml"), "name: c1\nlisten: nowhere\n")
			write(t, filepath.Join(p.dir, "pool.yaml"), "name: web\nhosts: {names: [h1, h2]}\n")
			write(t, filepath.Join(p.dir, "bad-pool.yaml"), "name: web\nhosts: {names: [h1, h2]}\nrebot: never\nat-once: {hosts: 2}\n")
			for name, text := range recordsOf(t) {
				write(t, filepath.Join(p.dir, name+".yaml"), text)
			}
			p.controller.empty = file.empty
			var got strings.Builder
			for _, line := range file.lines {
				args := strings.Fields(line)
				for i := range args {
					args[i] = strings.ReplaceAll(args[i], "$HOME", p.dir)
				}
				got.WriteString(p.run(t, args...).transcript(p.dir, args))
				for _, request := range p.controller.asked() {
					got.WriteString("asked: " + request + "\n")
				}
				got.WriteString("\n")
			}
			compareGolden(t, file.name, got.String())
		})
	}
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if os.Getenv(updateGolden) != "" {
		write(t, path, got)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("not as in %s (-want +got):\n%s", path, diff)
	}
}

const podYAML = `apiVersion: v1
kind: Pod
metadata:
  name: from-file
spec:
  containers:
  - name: main
    image: demo/redis:1
`

type goldenCase struct {
	name  string
	empty bool
	lines []string
}

func goldenCases() []goldenCase {
	return []goldenCase{
		{"image", false, []string{
			"image ls", "image ls -o json", "image import $HOME/image.tar --as demo/x:1 --host h1", "image import $HOME/broken.tar",
			"image import $HOME/none.tar", "image import $HOME", "image pull demo/redis:1", "image pull absent",
		}},
		{"pod", false, []string{
			"pod ls", "pod ls --host h1", "pod ls --host absent", "pod inspect redis", "pod inspect redis -o yaml", "pod inspect absent",
			"pod start redis", "pod stop redis --grace 5s", "pod stop redis -o json", "pod stop redis --grace -1s", "pod stop stuck",
			"pod rm redis", "pod rm redis --force -o yaml", "pod rm away", "pod logs redis --tail 2 -f -c main", "pod logs absent",
			"pod logs redis --tail -1",
		}},
		{"pod-shim", false, []string{
			"pod shim redis --record $HOME/greeter.yaml --version v2 --port 8080 --port 8081 --client 10.77.128.9=v1",
			"pod shim redis --record $HOME/greeter.yaml --version v2 --port 8080 --renew -o yaml", "pod shim redis --off", "pod shim redis",
			"pod shim gateway --record $HOME/greeter.yaml --backend redis:6379=v1 --backend web:80=v2 --port 8080 --health /healthz",
			"pod shim gateway --record $HOME/greeter.yaml --backend redis=v1 --port 8080", "pod shim gateway --record $HOME/greeter.yaml --backend absent:80=v1 --port 8080",
			"pod shim redis --off --record $HOME/greeter.yaml", "pod shim redis --record $HOME/greeter.yaml --port 8080",
			"pod shim redis --record $HOME/none.yaml --version v2 --port 8080", "pod shim redis --record $HOME/gap.yaml --version v2 --port 8080",
			"pod shim stuck --record $HOME/greeter.yaml --version v2 --port 8080", "shim ls", "shim show redis", "shim show absent",
			"shim trace redis --path /greet --wait 1m", "shim trace quiet", "shim trace absent", "shim reload redis",
		}},
		{"pod-run", false, []string{
			"pod run new --image demo/redis:1", "pod run new --image demo/redis:1 --host h2 -v data:/data -v shared=/srv/s:/s:ro -e A=b" +
				" --cpus 0.5 --memory 256MiB --user 999 --ip 10.77.128.9 --restart never --on-host-lost wait --allow-postcopy" +
				" --health-tcp 6379 -l app=redis --hostname inner -o yaml -- redis-server --save",
			"pod run -f $HOME/pod.yaml", "pod run -f $HOME/bad-pod.yaml", "pod run -f $HOME/none.yaml", "pod run -f $HOME/bad.yaml",
			"pod run -f $HOME/pod.yaml --memory 1GiB", "pod run -f $HOME/pod.yaml new", "pod run", "pod run new", "pod run new --image",
			"pod run new --image demo/redis:1 sh", "pod run New_ --image demo/redis:1 --cpus many --ip here", "pod run redis --image demo/redis:1",
			"pod run stuck --image demo/redis:1",
		}},
		{"pod-exec", false, []string{
			"pod exec redis echo -n hello", "pod exec redis -- echo hello", "pod exec -c main redis err", "pod exec redis vanish",
			"pod exec redis", "pod exec redis --", "pod exec -it redis sh", "pod exec absent sh",
		}},
		{"migrate", false, []string{
			"migrate redis --to h2", "migrate redis --to h2 --mode postcopy --downtime-budget 500ms --allow-postcopy -o json",
			"migrate redis --to h2 --dry-run", "migrate redis --to h2 --mode fast", "migrate redis --to h2 --downtime-budget 0s",
			"migrate redis", "migrate --to h2",
		}},
		{"migrate-fails", false, []string{
			"migrate stuck --to h2", "migrate refused --to h2", "migrate refused --to h2 --dry-run -o yaml", "migrate aborted --to h2",
			"migrate handed --to h2", "migrate lost --to h2", "migrate cut --to h2", "migrate absent --to h2", "migrate invalid --to h2",
		}},
		{"migration", false, []string{
			"migration ls", "migration ls --pod redis --limit 5", "migration ls --limit -1", "migration show m-1",
			"migration show m-2 --watch", "migration show absent",
		}},
		{"host", false, []string{
			"host ls", "host inspect h1", "host inspect h2", "host inspect h3", "host inspect absent", "host join h4",
			"host join h4 --ttl 10m -o json", "host join h4 --ttl 0s", "host resume h2", "host doctor h1", "host doctor h3",
			"host confirm-dead h3", "host confirm-dead h3 --boot-id b-3", "host rm h3", "host rm stuck",
		}},
		{"host-drain", false, []string{
			"host drain h1", "host drain h1 --parallel 2 --mode stop", "host drain h1 --dry-run", "host drain h2 -o json", "host drain h3",
			"host drain h1 --parallel -1", "host drain stuck",
		}},
		{"status", false, []string{"status", "status -o json", "status h1", "status h1 --refresh", "status h2 -o yaml", "status absent", "status --refresh"}},
		{"pool", false, []string{"pool ls", "pool ls -o json"}},
		{"plan", false, []string{"plan web", "plan web --no-refresh -o yaml", "plan blocked", "plan blocked -o json", "plan current", "plan absent", "plan"}},
		{"patch", false, []string{"patch web", "patch web --detach", "patch web -o json", "patch current", "patch stopping", "patch failing", "patch cut", "patch stuck", "patch absent"}},
		{"rollout", false, []string{
			"rollout ls", "rollout ls --pool web --limit 3 -o json", "rollout ls --limit -1", "rollout show r-1", "rollout show r-stopped", "rollout show absent",
			"rollout watch r-1", "rollout pause r-1", "rollout resume r-1 -o json", "rollout abort r-1", "rollout approve r-1 look", "rollout approve r-1", "rollout pause stuck",
		}},
		{"store", false, []string{"store backup $HOME/backup", "store backup $HOME/none/backup", "store backup"}},
		{"user", false, []string{
			"user add anna --role operator --for-server https://c1:7440,https://c2:7440 --file $HOME/anna.yaml", "user add anna --role viewer --for-server https://c1:7440 --file $HOME/anna.yaml",
			"user add bob --role viewer --for-server https://c1:7440 --file $HOME/bob.yaml -o json", "user add bob --role root", "user add bob",
			"user add bob --role viewer", "user add stuck --role viewer --for-server https://c1:7440 --file $HOME/stuck.yaml",
			"user add bob --role viewer --for-server https://c1:7440 --file $HOME/none/bob.yaml",
			"user ls", "user ls -o yaml", "user rm bob --reason left%us", "user rm absent", "user rm lacking",
		}},
		{"controller", false, []string{
			"controller ls", "controller ls -o json", "controller join c4 --reason growth", "controller join c4 --ttl 10m -o json", "controller join c4 --ttl 0s",
			"controller join stuck", "controller rm c3", "controller rm absent", "controller lss",
		}},
		{"events", false, []string{
			"events", "events --since 24h --object web -o json", "events --since 2026-01-31T22:00:00Z", "events --since soon",
			"events --watch", "events --watch -o json", "events --watch -o yaml",
		}},
		{"config", false, []string{
			"config check $HOME/good.yaml", "config check $HOME/bad.yaml", "config check $HOME/none.yaml", "config check",
			"config check $HOME/good.yaml --kind soup", "config check $HOME/agent.yaml", "config check $HOME/bad.yaml --kind agent",
			"config check $HOME/controller.yaml", "config check $HOME/pod.yaml", "config check $HOME/bad-pod.yaml --kind pod",
			"config check $HOME/pool.yaml", "config check $HOME/bad-pool.yaml --kind pool", "config check ../../configs/pools/web.yaml",
			"config check ../../configs/services/orders.yaml", "config check $HOME/wrong-example.yaml --kind service",
		}},
		{"service", false, []string{
			"service check $HOME/greeter.yaml", "service check $HOME/greeter.yaml -o json", "service check ../../configs/services/orders.yaml",
			"service check $HOME/missing-part.yaml", "service check $HOME/gap.yaml", "service check $HOME/unknown-version.yaml",
			"service check $HOME/wrong-example.yaml", "service check $HOME/ambiguous.yaml", "service check $HOME/loses.yaml",
			"service check $HOME/does-not-compose.yaml", "service check $HOME/unknown-key.yaml", "service check $HOME/image.tar",
			"service check $HOME/none.yaml", "service check $HOME", "service check",
			"service apply $HOME/greeter.yaml", "service apply $HOME/gap.yaml", "service apply $HOME/none.yaml", "service ls", "service ls -o json",
			"service show shop", "service show shop -o yaml", "service show absent", "service rm shop", "service rm stuck",
			"service flag shop spring", "service flag shop spring --unset", "service flag shop",
		}},
		{"upgrade", false, []string{
			"service upgrade shop --to v2 --image shop:2 --pod shop-0 --pod shop-1", "service upgrade shop --to v2 --detach", "service upgrade current --to v2",
			"service upgrade failing --to v2", "service upgrade cut --to v2", "service upgrade stuck --to v2", "service upgrade shop",
			"upgrade ls", "upgrade ls --service shop --limit 3 -o json", "upgrade ls --limit -1", "upgrade show u-1", "upgrade show u-failing", "upgrade show absent",
			"upgrade watch u-1", "upgrade pause u-1", "upgrade resume u-1 -o json", "upgrade abort u-1", "upgrade pause stuck",
			"pod run shop-3 --image shop:2 --service shop --version v2", "pod run shop-3 --image shop:2 --service shop",
		}},
		{"empty", true, []string{
			"image ls", "image ls -o json", "image ls -o yaml", "pod ls", "pod ls -o json", "host ls", "host ls -o json", "migration ls",
			"migration ls -o json", "pool ls", "rollout ls", "rollout ls -o json", "service ls", "upgrade ls", "status", "store backup $HOME/backup", "user ls", "user ls -o json", "events", "events -o json",
		}},
		{"misuse", false, []string{
			"", "pod", "podd", "pod lss", "pod ls more", "pod inspect", "pod ls --hots h1", "pod ls -o xml", "pod ls --timeout soon",
			"pod ls --timeout 0s", "pod ls --context none", "pod ls --server ftp://x", "pod ls --cert $HOME/none.pem",
		}},
	}
}

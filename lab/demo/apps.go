package demo

import (
	"cmp"
	"context"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab/images"
	"drydock/lab/selfcheck"
)

// app is what runs in one pod, and how it is used.
type app struct {
	name  string // of the pod
	image string // that of the same name if empty
	shows string // what is in there
	port  uint16
	args  []string
	// volume is mounted at the path.
	volume *drydockv1.Volume
	path   string
	// use starts the clients.
	use func(ctx context.Context, s *scene, addr string) (user, error)
}

func apps() []app {
	return []app{
		{name: images.Redis, shows: "Redis", port: 6379, use: useRedis},
		{
			name: images.Postgres, shows: "PostgreSQL", port: 5432, use: usePostgres,
			volume: &drydockv1.Volume{Name: "data", Kind: &drydockv1.Volume_Local_{Local: &drydockv1.Volume_Local{}}},
			path:   images.PostgresData,
		},
		{name: images.Nginx, shows: "nginx", port: 8080, use: useNginx},
		{
			name: images.Workbench, shows: "self-check", port: selfcheck.Port, use: useWorkbench,
			args: []string{"--generation-file", "/shared"},
			// Every host of a lab sees this directory.
			volume: &drydockv1.Volume{Name: "shared", Kind: &drydockv1.Volume_Shared_{Shared: &drydockv1.Volume_Shared{Path: "/srv/shared"}}},
			path:   "/shared",
		},
	}
}

// spec asks for the pod. It is never started again, as that would hide that it ended.
func (a app) spec() *drydockv1.PodSpec {
	container := &drydockv1.Container{Name: a.name, Image: cmp.Or(a.image, a.name), Args: a.args}
	spec := &drydockv1.PodSpec{
		Name: a.name, RestartPolicy: drydockv1.RestartPolicy_RESTART_POLICY_NEVER, AllowPostcopy: true,
		Containers: []*drydockv1.Container{container},
	}
	if a.volume != nil {
		spec.Volumes = []*drydockv1.Volume{a.volume}
		container.Mounts = []*drydockv1.VolumeMount{{Volume: a.volume.Name, Path: a.path}}
	}
	return spec
}

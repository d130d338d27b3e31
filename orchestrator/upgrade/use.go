package upgrade

import (
	"maps"
	"slices"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/pods/manifest"
)

// use is that a pod serves, or speaks to, a service.
type use struct {
	pod     *drydockv1.Pod
	service string
	version string
	client  bool
}

// how says it in words.
func (u use) how() string {
	if u.client {
		return "speaks version " + u.version + " of service " + u.service
	}
	return "serves version " + u.version + " of service " + u.service
}

// usesBy are the services that a pod has to do with, the one that it serves first.
func usesBy(pod *drydockv1.Pod) []use {
	var found []use
	labels := pod.GetSpec().GetLabels()
	if service := labels[manifest.LabelService]; service != "" {
		found = append(found, use{pod: pod, service: service, version: labels[manifest.LabelVersion]})
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if service, ok := strings.CutPrefix(key, manifest.LabelSpeaks); ok {
			found = append(found, use{pod: pod, service: service, version: labels[key], client: true})
		}
	}
	return found
}

// usesOf are the pods that serve a service, and its clients.
func usesOf(service string, pods []*drydockv1.Pod) []use {
	var found []use
	for _, pod := range pods {
		for _, u := range usesBy(pod) {
			if u.service == service {
				found = append(found, u)
			}
		}
	}
	return found
}

// hasEnded says whether a pod has ended for good, and neither serves nor asks any more.
func hasEnded(pod *drydockv1.Pod) bool { return pod.GetPhase() == drydockv1.PodPhase_POD_PHASE_ENDED }

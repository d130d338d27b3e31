package orchestrator

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/config"
	"drydock/internal/pki"
	"drydock/orchestrator/audit"
	"drydock/orchestrator/store"
)

// events are what was recorded, as one line each.
func (l *lab) events(object string) []string {
	l.Helper()
	var lines []string
	l.must(l.trail.List(l.Context(), &drydockv1.ListEventsRequest{Object: object}, func(e *drydockv1.Event) error {
		line := fmt.Sprintf("%s: %s %s: %s", e.GetActor(), e.GetVerb(), e.GetObject(), e.GetOutcome())
		if e.GetReason() != "" {
			line += " (" + e.GetReason() + ")"
		}
		if e.GetTime() == nil || e.GetOutcome() != audit.Begun && e.GetEnded() == nil {
			l.Errorf("%s has no time", line)
		}
		lines = append(lines, line)
		return nil
	}))
	return lines
}

// access is AccessService as somebody on the socket sees it.
func (l *lab) access() drydockv1connect.AccessServiceClient {
	l.Helper()
	client, base, err := pki.Client("unix://"+l.config.Socket, nil, nil)
	l.must(err)
	l.Cleanup(client.CloseIdleConnections)
	return drydockv1connect.NewAccessServiceClient(client, base)
}

// user adds one, and is a client with the credentials.
func (l *lab) user(name string, rights pki.Rights) drydockv1connect.ControllerServiceClient {
	l.Helper()
	request, key, err := pki.NewRequest(pki.Identity{Kind: pki.User, Name: name})
	l.must(err)
	made, err := l.access().CreateUser(l.Context(), connect.NewRequest(&drydockv1.CreateUserRequest{
		Name: name, Role: rights.String(), CertificateRequest: request,
	}))
	l.must(err)
	keeper, err := pki.NewKeeper(l.TempDir(), append(made.Msg.GetCertificate(), key...), made.Msg.GetCa(), pki.SystemClock{})
	l.must(err)
	client, base, err := pki.Client("https://127.0.0.1:"+l.port, keeper, pki.ExpectKind(pki.Controller))
	l.must(err)
	l.Cleanup(client.CloseIdleConnections)
	return drydockv1connect.NewControllerServiceClient(client, base)
}

func TestEveryChangeIsRecordedWithWhoAndWhyAndWhatBecameOfIt(t *testing.T) {
	l := newLab(t)
	h := l.join("h1")
	l.image("")
	l.mustRun("web", "")
	stop := connect.NewRequest(&drydockv1.StopPodRequest{Name: "web"})
	stop.Header().Set(audit.ReasonHeader, url.QueryEscape("täglich: 5% of load"))
	_, err := l.admin.StopPod(t.Context(), stop)
	l.must(err)
	if _, err := l.run("web", ""); err == nil {
		t.Error("the pod was made twice")
	}
	if _, err := l.admin.ListPods(t.Context(), connect.NewRequest(&drydockv1.ListPodsRequest{})); err != nil {
		t.Error(err)
	}
	me := fmt.Sprintf("uid %d: ", os.Getuid())
	want := []string{
		me + "host join host h1: done",
		"host h1: join host h1: done (it has a token, and is at " + h.address + ")",
		me + "image import image redis:7: done",
		me + "pod run pod web: done",
		me + "pod stop pod web: done (täglich: 5% of load)",
		me + "pod run pod web: refused",
	}
	got := l.events("")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(want[3:], l.events("web")); diff != "" {
		t.Errorf("of one object: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(want[:2], l.events("host h1")); diff != "" {
		t.Errorf("of an object and its kind: -want +got:\n%s", diff)
	}
	l.stop()
	l.start()
	if diff := cmp.Diff(want, l.events("")); diff != "" {
		t.Errorf("after a restart: -want +got:\n%s", diff)
	}
}

func TestADryRunIsNotRecordedAndARefusalIs(t *testing.T) {
	l := newLab(t)
	l.join("h1")
	stream, err := l.admin.DrainHost(t.Context(), connect.NewRequest(&drydockv1.DrainHostRequest{Name: "h1", DryRun: true}))
	l.must(err)
	for stream.Receive() {
	}
	l.must(stream.Close())
	_, err = l.user("anna", pki.ViewerRights).RemoveHost(t.Context(), connect.NewRequest(&drydockv1.RemoveHostRequest{Name: "h1"}))
	if connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("a viewer removes a host: %v", err)
	}
	got := l.events("")
	if want := "user anna: host rm host: refused"; !slices.Contains(got, want) {
		t.Errorf("%q is not in %q", want, got)
	}
	if slices.ContainsFunc(got, func(line string) bool { return strings.Contains(line, "drain") }) {
		t.Errorf("a dry run is among %q", got)
	}
}

func TestARemovedUserMayNothing(t *testing.T) {
	l := newLab(t)
	anna := l.user("anna", pki.OperatorRights)
	list := func() error {
		_, err := anna.ListPods(t.Context(), connect.NewRequest(&drydockv1.ListPodsRequest{}))
		return err
	}
	l.must(list())
	again := &drydockv1.CreateUserRequest{Name: "anna", Role: "admin"}
	again.CertificateRequest, _, _ = pki.NewRequest(pki.Identity{Kind: pki.User, Name: "anna"})
	_, err := l.access().CreateUser(t.Context(), connect.NewRequest(again))
	l.refused(err, "there is a user of that name")
	users, err := l.access().ListUsers(t.Context(), connect.NewRequest(&drydockv1.ListUsersRequest{}))
	if err != nil || len(users.Msg.GetUsers()) != 1 || users.Msg.GetUsers()[0].GetRole() != "operator" {
		t.Errorf("got %v, %v", users, err)
	}
	_, err = l.access().RemoveUser(t.Context(), connect.NewRequest(&drydockv1.RemoveUserRequest{Name: "anna"}))
	l.must(err)
	if err := list(); connect.CodeOf(err) != connect.CodeUnauthenticated || !contains(err.Error(), "was removed") {
		t.Errorf("got %v", err)
	}
	// Another user of that name does not bring the old certificate back.
	l.must(func() error {
		_, err := l.user("anna", pki.ViewerRights).ListPods(t.Context(), connect.NewRequest(&drydockv1.ListPodsRequest{}))
		return err
	}())
	if err := list(); connect.CodeOf(err) != connect.CodeUnauthenticated || !contains(err.Error(), "another certificate") {
		t.Errorf("got %v", err)
	}
	for name, role := range map[string]string{"": "viewer", "Anna": "viewer", "bob": "root"} {
		_, err := l.access().CreateUser(t.Context(), connect.NewRequest(&drydockv1.CreateUserRequest{Name: name, Role: role, CertificateRequest: again.CertificateRequest}))
		if connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("user %q with role %q: %v", name, role, err)
		}
	}
}

func TestWatchingTellsEventsAsTheyCome(t *testing.T) {
	l := newLab(t)
	l.join("h1")
	stream, err := l.access().ListEvents(t.Context(), connect.NewRequest(&drydockv1.ListEventsRequest{Object: "h1", Watch: true}))
	l.must(err)
	next := func() string {
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		e := stream.Msg().GetEvent()
		return e.GetVerb() + " " + e.GetOutcome()
	}
	got := []string{next(), next()}
	_, err = l.admin.ResumeHost(t.Context(), connect.NewRequest(&drydockv1.ResumeHostRequest{Name: "h1"}))
	l.must(err)
	got = append(got, next(), next())
	slices.Sort(got[2:]) // the two are watched apart
	if diff := cmp.Diff([]string{"host join done", "join done", "host resume begun", "host resume done"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestOldAndSurplusEventsAreRemovedAndThatIsRecorded(t *testing.T) {
	now := time.Now()
	k := clockAt(now.Add(-3 * time.Hour))
	l := newLab(t, timed(k))
	ctx := t.Context()
	at := func(ago time.Duration, pod string) {
		k.forward(now.Add(-ago).Sub(k.now()))
		event, err := l.trail.Begin(ctx, "pod stop", "pod "+pod, "")
		l.must(err)
		l.trail.Finish(ctx, event, audit.Done, "")
	}
	at(3*time.Hour, "a")
	at(2*time.Hour, "b")
	at(time.Minute, "c")
	at(time.Second, "d")
	k.forward(time.Second)
	trim := func(age time.Duration, events int64) []string {
		l.must(l.trail.Trim(ctx, config.Audit{MaxAge: age, MaxEvents: events}))
		return l.events("")
	}
	pod := func(name string) string { return "controller c1: pod stop pod " + name + ": done" }
	trimmed := func(why string) string { return "controller c1: events trim events: done (" + why + ")" }
	all := []string{pod("a"), pod("b"), pod("c"), pod("d")}
	if diff := cmp.Diff(all, trim(24*time.Hour, 4)); diff != "" {
		t.Errorf("nothing to remove: -want +got:\n%s", diff)
	}
	byAge := trimmed("audit.max-age 2h30m0s, audit.max-events 10")
	if diff := cmp.Diff([]string{pod("b"), pod("c"), pod("d"), byAge}, trim(150*time.Minute, 10)); diff != "" {
		t.Errorf("by age: -want +got:\n%s", diff)
	}
	k.forward(time.Second)
	if diff := cmp.Diff([]string{byAge, trimmed("audit.max-age 24h0m0s, audit.max-events 2")}, trim(24*time.Hour, 2)); diff != "" {
		t.Errorf("by number: -want +got:\n%s", diff)
	}
	outcomes, err := store.List[drydockv1.Event](ctx, l.store, "/drydock/v1/outcomes/")
	if err != nil || len(outcomes) != 0 {
		t.Errorf("outcomes left: %v, %v", outcomes, err)
	}
}

func TestWhatTheControllerDoesByItselfIsRecorded(t *testing.T) {
	l := newLab(t)
	h := l.join("h1")
	l.image("")
	l.mustRun("web", "")
	h.set(func() {
		delete(h.pods, "web")
		delete(h.remains, "web")
		h.boot = "h1-boot-2"
	})
	l.eventually("the pod is started again", func() bool { return h.runs("web") })
	var verbs []string
	for _, line := range l.events("web") {
		if strings.HasPrefix(line, "controller c1: ") {
			verbs = append(verbs, strings.SplitN(line, " (", 2)[0])
		}
	}
	if diff := cmp.Diff([]string{"controller c1: pod lost pod web: done", "controller c1: pod restart pod web: done"}, verbs); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAPodThatItsHostReportsLostIsRecordedOnce(t *testing.T) {
	l := newLab(t)
	h := l.join("h1")
	l.image("")
	l.mustRun("web", "")
	own, err := l.ownerOf(t.Context(), "web")
	l.must(err)
	for range 2 { // an answer may get lost, and the host report again
		_, err := h.coord.ReportOwner(t.Context(), connect.NewRequest(&drydockv1.ReportOwnerRequest{
			Pod: "web", Epoch: own.Epoch, BootId: h.boot, Event: drydockv1.OwnerEvent_OWNER_EVENT_LOST, Reason: "its tasks ended half-way",
		}))
		if err != nil && connect.CodeOf(err) != connect.CodeFailedPrecondition {
			t.Fatal(err)
		}
	}
	found := 0
	for _, line := range l.events("web") {
		if strings.Contains(line, "pod lost") && strings.Contains(line, "its tasks ended half-way") {
			found++
		}
	}
	if found != 1 {
		t.Errorf("%d such events: %v", found, l.events("web"))
	}
}

func TestAnEventsOutcomeIsWrittenOnce(t *testing.T) {
	l := newLab(t)
	event, err := l.trail.Begin(context.Background(), "pod stop", "pod web", "")
	l.must(err)
	l.trail.Finish(t.Context(), event, audit.Done, "")
	l.trail.Finish(t.Context(), event, audit.Failed, "")
	if diff := cmp.Diff([]string{"controller c1: pod stop pod web: done"}, l.events("")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

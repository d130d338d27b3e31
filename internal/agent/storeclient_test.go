package agent

import (
	"context"
	"errors"
	"slices"
	"testing"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/pki"
	"drydock/migrate"
	"drydock/migrate/owner"
	"drydock/pods"

	"connectrpc.com/connect"
)

// controllers is a client of controllers that answer as given; asked are those that were asked, in order.
func controllers(answers map[string]error, order ...string) (s *storeClient, look func(context.Context) error, asked *[]string) {
	s, asked = &storeClient{}, new([]string)
	for _, url := range order {
		s.all = append(s.all, controller{url: url})
	}
	look = func(ctx context.Context) error {
		_, err := ask(ctx, s, func(c controller) func(context.Context, *connect.Request[drydockv1.GetOwnerRequest]) (*connect.Response[drydockv1.GetOwnerResponse], error) {
			return func(context.Context, *connect.Request[drydockv1.GetOwnerRequest]) (*connect.Response[drydockv1.GetOwnerResponse], error) {
				*asked = append(*asked, c.url)
				return connect.NewResponse(&drydockv1.GetOwnerResponse{}), answers[c.url]
			}
		}, &drydockv1.GetOwnerRequest{Pod: "db"})
		return err
	}
	return s, look, asked
}

func TestControllersAreAskedUntilOneAnswersAndThatOneIsAskedFirstNextTime(t *testing.T) {
	away := connect.NewError(connect.CodeUnavailable, errors.New("away"))
	_, look, asked := controllers(map[string]error{"a": away}, "a", "b", "c")
	for range 2 {
		if err := look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"a", "b", "b"}; !slices.Equal(*asked, want) {
		t.Errorf("asked %v, want %v", *asked, want)
	}
}

func TestACallLostOnAConnectionToAnEarlierStartOfTheControllerIsMadeAgain(t *testing.T) {
	answers := map[string]error{"a": connect.NewError(connect.CodeUnavailable, errors.New("connection reset"))}
	s := &storeClient{all: []controller{{url: "a"}}}
	asked := 0
	_, err := ask(t.Context(), s, func(c controller) func(context.Context, *connect.Request[drydockv1.GetOwnerRequest]) (*connect.Response[drydockv1.GetOwnerResponse], error) {
		return func(context.Context, *connect.Request[drydockv1.GetOwnerRequest]) (*connect.Response[drydockv1.GetOwnerResponse], error) {
			err := answers[c.url]
			asked++
			delete(answers, c.url)
			return connect.NewResponse(&drydockv1.GetOwnerResponse{}), err
		}
	}, &drydockv1.GetOwnerRequest{Pod: "db"})
	if err != nil || asked != 2 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

func TestWhatNoControllerAnswersIsUnknownAndARefusalIsNot(t *testing.T) {
	away := connect.NewError(connect.CodeDeadlineExceeded, errors.New("away"))
	_, look, _ := controllers(map[string]error{"a": away, "b": away}, "a", "b")
	if err := look(t.Context()); !errors.Is(err, owner.ErrUnknown) {
		t.Errorf("none answers: %v", err)
	}
	no := connect.NewError(connect.CodeFailedPrecondition, errors.New("no"))
	_, look, asked := controllers(map[string]error{"a": no}, "a", "b")
	if err := look(t.Context()); err == nil || errors.Is(err, owner.ErrUnknown) || len(*asked) != 1 {
		t.Errorf("a refusal: %v, asked %v", err, *asked)
	}
}

func TestAControllerWithAnAddressThatIsNoneIsNotAskedInTheClear(t *testing.T) {
	s := newStoreClient([]string{"ftp://nowhere"}, (*pki.Keeper)(nil))
	if view := s.Look(t.Context(), "db"); view.Known {
		t.Error("it answered")
	}
}

func TestErrorsHaveTheCodeOfTheirKind(t *testing.T) {
	for _, c := range []struct {
		err  error
		want connect.Code
	}{
		{&migrate.Refused{Reasons: []*drydockv1.Refusal{{Reason: "full", Remedy: "choose another"}}}, connect.CodeFailedPrecondition},
		{pods.ErrNotFound, connect.CodeNotFound},
		{owner.ErrFenced, connect.CodeFailedPrecondition},
		{errors.New("broken"), connect.CodeInternal},
		{connect.NewError(connect.CodeAborted, errors.New("x")), connect.CodeAborted},
	} {
		if got := connect.CodeOf(failed(c.err)); got != c.want {
			t.Errorf("%v: code %s, want %s", c.err, got, c.want)
		}
	}
}

package shop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Sold is an order as whoever wrote it knows it, in euros.
type Sold struct {
	Amount int64
	Note   string
}

// As is what a client of a version sees of an order.
func (s Sold) As(version string) Sold {
	if version != "v3" {
		s.Note = ""
	}
	return s
}

func (s Sold) order(version string) order {
	if version == "v1" {
		return order{Cents: s.Amount}
	}
	return order{Amount: s.Amount, Currency: "EUR", Note: s.As(version).Note}
}

func soldAs(version string, o order) (Sold, error) {
	if !o.is(version) || version != "v1" && o.Currency != "EUR" {
		return Sold{}, fmt.Errorf("%+v is not an order of %s", o, version)
	}
	return Sold{Amount: o.Cents + o.Amount, Note: o.Note}, nil
}

// ErrDisallowed is that the shim has refused a call as one that the server's version does not have.
var ErrDisallowed = errors.New("the call is disallowed")

// Client speaks one version. Served is the version of the server that answered.
type Client interface {
	Put(ctx context.Context, id string, s Sold) (served string, err error)
	Get(ctx context.Context, id string) (s Sold, served string, err error)
	Close() error
}

// Dial connects to a server or a gateway.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// HTTP is a client over HTTP and JSON.
type HTTP struct {
	base, version string
	transport     *http.Transport
}

// NewHTTP makes a client of a version.
func NewHTTP(dial Dial, address, version string) *HTTP {
	return &HTTP{"http://" + address + "/orders/", version, &http.Transport{DialContext: dial}}
}

// Put implements Client, as do the others.
func (c *HTTP) Put(ctx context.Context, id string, s Sold) (string, error) {
	body, err := json.Marshal(s.order(c.version))
	if err != nil {
		return "", err
	}
	_, served, err := c.call(ctx, http.MethodPut, id, body, http.StatusNoContent)
	return served, err
}

// Get reads an order.
func (c *HTTP) Get(ctx context.Context, id string) (Sold, string, error) {
	data, served, err := c.call(ctx, http.MethodGet, id, nil, http.StatusOK)
	if err != nil {
		return Sold{}, served, err
	}
	var o order
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&o); err != nil {
		return Sold{}, served, fmt.Errorf("%w: %s", err, data)
	}
	s, err := soldAs(c.version, o)
	return s, served, err
}

// Missing looks for an order that was never there.
func (c *HTTP) Missing(ctx context.Context, id string) (string, error) {
	_, served, err := c.call(ctx, http.MethodGet, id, nil, http.StatusNotFound)
	return served, err
}

// Delete deletes an order that was never there, which servers of v3 answer with 404, and others do not have.
func (c *HTTP) Delete(ctx context.Context, id string) (string, error) {
	_, served, err := c.call(ctx, http.MethodDelete, id, nil, http.StatusNotFound)
	return served, err
}

// Close closes the connections.
func (c *HTTP) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

func (c *HTTP) call(ctx context.Context, method, id string, body []byte, want int) ([]byte, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+id, bytes.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	r.Header = http.Header{VersionHeader: {c.version}, "Content-Type": {"application/json"}}
	res, err := c.transport.RoundTrip(r)
	if err != nil {
		return nil, "", err
	}
	data, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, "", err
	}
	served := res.Header.Get(ServedHeader)
	switch {
	case res.StatusCode == http.StatusNotImplemented && bytes.Contains(data, []byte("urn:drydock:shim:disallowed")):
		return nil, served, ErrDisallowed
	case res.StatusCode != want:
		return nil, served, fmt.Errorf("%s %s: status %d: %s", method, id, res.StatusCode, data)
	}
	return data, served, nil
}

// GRPC is a client over gRPC.
type GRPC struct {
	api
	version string
	conn    *grpc.ClientConn
}

// NewGRPC makes a client of a version.
func NewGRPC(dial Dial, address, version string) (*GRPC, error) {
	a, err := apiOf(version)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return dial(ctx, "tcp", address) }))
	return &GRPC{a, version, conn}, err
}

// Put implements Client, as do the others.
func (c *GRPC) Put(ctx context.Context, id string, s Sold) (string, error) {
	return c.call(ctx, "Put", id, c.message(id, s.order(c.version)), dynamicpb.NewMessage(c.done))
}

// Get reads an order.
func (c *GRPC) Get(ctx context.Context, id string) (Sold, string, error) {
	which, answer := dynamicpb.NewMessage(c.which), dynamicpb.NewMessage(c.order)
	which.Set(c.which.Fields().ByName("id"), protoreflect.ValueOfString(id))
	served, err := c.call(ctx, "Get", id, which, answer)
	if err != nil {
		return Sold{}, served, err
	}
	got, o, unknown := c.orderOf(answer)
	if unknown || got != id {
		return Sold{}, served, fmt.Errorf("get %s: the answer is %v", id, answer)
	}
	s, err := soldAs(c.version, o)
	return s, served, err
}

// Close closes the connection.
func (c *GRPC) Close() error { return c.conn.Close() }

func (c *GRPC) call(ctx context.Context, method, id string, in, out *dynamicpb.Message) (string, error) {
	ctx = metadata.AppendToOutgoingContext(ctx, strings.ToLower(VersionHeader), c.version, strings.ToLower(OrderHeader), id)
	var head metadata.MD
	err := c.conn.Invoke(ctx, "/shop.Orders/"+method, in, out, grpc.Header(&head), grpc.WaitForReady(true))
	return strings.Join(head.Get(ServedHeader), " "), err
}

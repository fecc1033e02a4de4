// Package engine connects a plugin with the Pulumi engine that started it: it
// serves the plugin's gRPC service the way the engine expects, ends with the
// engine, and sends messages back to it.
package engine

import (
	"context"
	"fmt"
	"sync"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Client sends messages to the engine. Its zero value discards them, which is
// what a plugin without an engine (a test, a schema query) wants.
type Client struct {
	mu      sync.Mutex
	address string
	rpc     pulumirpc.EngineClient
}

// NewClient returns a client of the engine at address (host:port); it dials on
// first use. An empty address gives a client that discards messages.
func NewClient(address string) *Client {
	return &Client{address: address}
}

// Address is the engine's gRPC address, empty when there is none.
func (c *Client) Address() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.address
}

// SetAddress tells the client where the engine is. An address that is already
// known stays: all the engine's addresses lead to the same engine.
func (c *Client) SetAddress(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.address == "" {
		c.address = address
	}
}

// Info prints a message beside the resource and keeps it.
func (c *Client) Info(ctx context.Context, urn resource.URN, format string, args ...any) {
	c.log(ctx, pulumirpc.LogSeverity_INFO, urn, false, fmt.Sprintf(format, args...))
}

// Warn prints a warning that the user sees again at the end of the run.
func (c *Client) Warn(ctx context.Context, urn resource.URN, format string, args ...any) {
	c.log(ctx, pulumirpc.LogSeverity_WARNING, urn, false, fmt.Sprintf(format, args...))
}

// Status shows a message as the resource's progress; the next one replaces it.
func (c *Client) Status(ctx context.Context, urn resource.URN, format string, args ...any) {
	c.log(ctx, pulumirpc.LogSeverity_INFO, urn, true, fmt.Sprintf(format, args...))
}

// log never fails: a message that cannot be delivered must not fail the work
// it tells of.
func (c *Client) log(
	ctx context.Context, severity pulumirpc.LogSeverity, urn resource.URN, ephemeral bool, message string,
) {
	rpc := c.connect()
	if rpc == nil {
		return
	}
	_, _ = rpc.Log(ctx, &pulumirpc.LogRequest{
		Severity:  severity,
		Urn:       string(urn),
		Message:   message,
		Ephemeral: ephemeral,
	})
}

func (c *Client) connect() pulumirpc.EngineClient {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rpc != nil || c.address == "" {
		return c.rpc
	}
	conn, err := grpc.NewClient(c.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil
	}
	c.rpc = pulumirpc.NewEngineClient(conn)
	return c.rpc
}

// Package messenger sends Facebook Messenger messages through messenger-connector.
//
// [Connect] reaches the service. The client has the calls of the contract, with a deadline, retries that cannot send
// twice, and errors as [Error]; and [Client.SendBulk] for audiences of any length. Messages and enums are in the
// package messenger/v1 beside this one.
package messenger

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	messengerv1 "github.com/messenger-connector/messenger-connector/clients/go/messenger/v1"
)

// Version of this client; the service of the same version knows all that it can ask for.
const Version = "0.1.0"

const (
	timeoutDefault          = 30 * time.Second
	reconnectTimeoutDefault = 5 * time.Minute
	keepaliveInterval       = 30 * time.Second
	keepaliveTimeout        = 20 * time.Second
	connectTimeout          = 5 * time.Second
	connectWaitMax          = 5 * time.Second
)

// Unary calls that end UNAVAILABLE, and no others, are made again. A connection that breaks ends them so, too, and tells
// nothing of the message: every send has an id, the same for all tries, and the reading calls change nothing. A bulk has
// its own way.
const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
	"methodConfig": [{
		"name": [{"service": "messenger.v1.MessengerService"}],
		"retryPolicy": {
			"maxAttempts": 4, "initialBackoff": "0.2s", "maxBackoff": "5s", "backoffMultiplier": 2,
			"retryableStatusCodes": ["UNAVAILABLE"]
		}
	}, {
		"name": [{"service": "messenger.v1.MessengerService", "method": "SendBulkMessages"}]
	}]
}`

// Options say how to reach the service. The zero value is for one without TLS and without keys.
type Options struct {
	// Key is the caller's key, sent as "authorization: Bearer KEY". Give it away over TLS only, or within a mesh that
	// encrypts.
	Key string

	// TLS turns TLS on. &tls.Config{} trusts the system's authorities; RootCAs names others, and Certificates has the
	// client's own for mutual TLS.
	TLS *tls.Config

	// Timeout is the deadline of a unary call whose context has none, how long the start of a stream may take, and how long
	// SendBulk tries for its first stream. 0 means 30 seconds.
	Timeout time.Duration

	// ReconnectTimeout is how long SendBulk tries for further streams without any result. 0 means 5 minutes.
	ReconnectTimeout time.Duration
}

// Client is a connection to messenger-connector. It may be used by many goroutines at once, and needs a Close.
//
// It has the calls of [messengerv1.MessengerServiceClient]: SendTextMessage, SendMediaMessage, SendSenderAction,
// SendTemplateMessage, GetBulk, ListBulkResults and ListPages. They return an [*Error]. A send whose RequestId is empty
// gets one before the first try, so that a retry cannot send twice; the caller's request is not changed. A call that ends
// UNAVAILABLE is made again, 4 times in all, and one whose message is in progress until its deadline. For
// SendBulkMessages use [Client.SendBulk], which speaks its protocol.
type Client struct {
	messengerv1.MessengerServiceClient

	connection       *grpc.ClientConn
	timeout          time.Duration
	reconnectTimeout time.Duration
}

// Connect returns a client of the service at an address such as "localhost:50051", or "dns:///connector:50051" for all
// replicas behind a name. It connects with the first call. An error means that the address or the options are wrong.
func Connect(address string, options Options) (*Client, error) {
	client := &Client{timeout: options.Timeout, reconnectTimeout: options.ReconnectTimeout}
	if client.timeout == 0 {
		client.timeout = timeoutDefault
	}
	if client.reconnectTimeout == 0 {
		client.reconnectTimeout = reconnectTimeoutDefault
	}
	transport := insecure.NewCredentials()
	if options.TLS != nil {
		transport = credentials.NewTLS(options.TLS)
	}
	connectWaits := backoff.Config{BaseDelay: firstWaitMax, Multiplier: 2, Jitter: 0.2, MaxDelay: connectWaitMax}
	dialOptions := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: connectWaits, MinConnectTimeout: connectTimeout}),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithUserAgent("messenger-connector-go/" + Version),
		grpc.WithUnaryInterceptor(client.unary),
	}
	if options.Key != "" {
		dialOptions = append(dialOptions, grpc.WithPerRPCCredentials(bearerKey(options.Key)))
	}
	connection, err := grpc.NewClient(address, dialOptions...)
	if err != nil {
		return nil, fmt.Errorf("messenger: address %q: %w", address, err)
	}
	client.connection = connection
	client.MessengerServiceClient = messengerv1.NewMessengerServiceClient(connection)
	return client, nil
}

// Close ends the connection. Calls that are under way end with code Canceled; what they had sent is on record.
func (c *Client) Close() error {
	return c.connection.Close()
}

// unary is what every unary call goes through, once, however often it is tried.
func (c *Client) unary(
	ctx context.Context, method string, request, response any, connection *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	request = withRequestID(request)
	for waits := 0; ; waits++ {
		err := invoke(ctx, method, request, response, connection, options...)
		if err == nil {
			return nil
		}
		failure := newError(err)
		if isInProgress(failure.Reason) && waitForAnotherTry(ctx, waits, failure) {
			continue
		}
		if named, ok := request.(interface{ GetRequestId() string }); ok {
			failure.RequestID = named.GetRequestId()
		}
		return failure
	}
}

// waitForAnotherTry waits before the next try of a call whose message is in progress: an earlier one, whose connection
// broke, may have begun to send it. False if the deadline comes first.
func waitForAnotherTry(ctx context.Context, waits int, failure *Error) bool {
	wait := max(rand.N(longestWait(waits, failure)), failure.RetryAfter)
	if deadline, has := ctx.Deadline(); has && time.Until(deadline) <= wait {
		return false
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done(): // The next try tells so.
	}
	return true
}

// withRequestID returns the request, or a copy of it with an id if it has room for one and none.
func withRequestID(request any) any {
	message, ok := request.(interface {
		proto.Message
		GetRequestId() string
	})
	if !ok || message.GetRequestId() != "" {
		return request
	}
	filled := proto.Clone(message).ProtoReflect()
	field := filled.Descriptor().Fields().ByName("request_id")
	filled.Set(field, protoreflect.ValueOfString(uuid.NewString()))
	return filled.Interface()
}

type bearerKey string

func (k bearerKey) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(k)}, nil
}

// RequireTransportSecurity is false because a mesh may encrypt in the client's stead.
func (k bearerKey) RequireTransportSecurity() bool { return false }

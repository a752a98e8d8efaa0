package messenger

import (
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	messengerv1 "github.com/messenger-connector/messenger-connector/clients/go/messenger/v1"
)

const (
	// The longest first wait before a new stream. It doubles up to waitMax; a stream that lives that long succeeded.
	firstWaitMax = 200 * time.Millisecond
	waitMax      = 15 * time.Second
	// After a stream that left nothing but items in progress: the service is well, and their outcome may come any time.
	inProgressWaitMax = 2 * time.Second
	doublingsMax      = 10
)

type (
	bulkStream = messengerv1.MessengerService_SendBulkMessagesClient
	yieldFunc  = func(*messengerv1.ItemResult, error) bool
)

// BulkRun is a bulk that [Client.SendBulk] sends when its results are taken.
type BulkRun struct {
	// BulkID is the name of the bulk: the start's, or the one made up for it. Under it the bulk can be resumed.
	BulkID string

	// RunID is the name of this run of the bulk: the start's, or the one made up for it.
	RunID string

	results iter.Seq2[*messengerv1.ItemResult, error]
}

// Results yields one result per item, in any order. To be ranged over once.
func (r *BulkRun) Results() iter.Seq2[*messengerv1.ItemResult, error] { return r.results }

// SendBulk sends a message to each of many people when the results are taken, which come one per item, in any order:
//
//	for result, err := range client.SendBulk(ctx, start, items).Results() {
//
// items may be of any length, and may wait for items to come. It runs in a goroutine of its own, and never further
// ahead than the service allows without a result that the caller has taken. An item must not be changed afterwards. A
// channel is a source too, through a function that ranges over it.
//
// A stream that ends early (a deploy, the network, a crash) is opened again under the same bulk id, with exponential
// backoff, and what has no result is sent again; the service sends nothing twice. A start without a bulk id gets a
// random one, which the run tells: with it another process can go on with the bulk. The same goes for the run id. All
// streams are of one run: with ON_UNKNOWN_RESEND it sends again what earlier runs left unknown, and reports what it
// leaves unknown itself.
//
// An error is the last thing yielded, and an [*Error]: the service refused the bulk, could not be reached for as long
// as the [Options] say, or the context ended. To stop early, break out of the loop or cancel the context: the stream is
// cancelled, and of the source at most the item is read that is being waited for. What was sent is on record:
// ListBulkResults lists it.
func (c *Client) SendBulk(
	ctx context.Context, start *messengerv1.BulkStart, items iter.Seq[*messengerv1.BulkItem],
) *BulkRun {
	named := &messengerv1.BulkStart{}
	proto.Merge(named, start)
	if named.BulkId == "" {
		named.BulkId = uuid.NewString()
	}
	if named.RunId == "" {
		named.RunId = uuid.NewString()
	}
	if items == nil {
		items = slices.Values([]*messengerv1.BulkItem(nil))
	}
	results := func(yield func(*messengerv1.ItemResult, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		b := &bulk{client: c, start: named, account: newAccount()}
		defer context.AfterFunc(ctx, b.account.wake)()
		go b.account.take(ctx, items)
		if err := b.run(ctx, yield); err != nil && err != errStopped {
			yield(nil, err)
		}
	}
	return &BulkRun{BulkID: named.BulkId, RunID: named.RunId, results: results}
}

// errStopped ends a bulk whose caller wants no more results.
var errStopped = errors.New("the caller stopped")

// bulk is one call of SendBulk, over all its streams.
type bulk struct {
	client  *Client
	start   *messengerv1.BulkStart
	account *account
	// The service has taken the start, of this stream or an earlier one.
	isAccepted bool
	// When it took the start of this stream; zero if it did not.
	acceptedAt time.Time
	// Results that the caller got.
	yielded int
}

// run opens streams until every item has its result, or there is no hope that a further stream brings one.
func (b *bulk) run(ctx context.Context, yield yieldFunc) error {
	failures, failingSince := 0, time.Time{}
	for {
		yielded := b.yielded
		b.acceptedAt = time.Time{}
		err := b.stream(ctx, yield)
		switch {
		case err == errStopped:
			return err
		case ctx.Err() != nil:
			return newError(status.FromContextError(ctx.Err()).Err())
		case b.account.isComplete():
			return nil
		}
		failure := newError(err)
		if !mayPass(failure) || b.client.connection.GetState() == connectivity.Shutdown {
			return failure
		}
		hasLived := !b.acceptedAt.IsZero() && time.Since(b.acceptedAt) >= waitMax
		if failures == 0 || b.yielded > yielded || hasLived {
			failures, failingSince = 0, time.Now()
		}
		left := b.patience() - time.Since(failingSince)
		if left <= 0 {
			return failure
		}
		wait := max(rand.N(longestWait(failures, failure)), failure.RetryAfter)
		failures++
		select {
		case <-time.After(min(wait, left)):
		case <-ctx.Done():
		}
		// The connection has waits of its own, and this one is over.
		b.client.connection.ResetConnectBackoff()
	}
}

// longestWait is the longest wait after a failure with so many before it.
func longestWait(failures int, failure *Error) time.Duration {
	longest := min(firstWaitMax<<min(failures, doublingsMax), waitMax)
	if isInProgress(failure.Reason) {
		return min(longest, inProgressWaitMax)
	}
	return longest
}

// patience is how long to try for a stream without any result.
func (b *bulk) patience() time.Duration {
	if b.isAccepted {
		return b.client.reconnectTimeout
	}
	return b.client.timeout
}

// mayPass tells whether a further stream may fare better than one that ended so. An end without a reason is the
// transport's.
func mayPass(failure *Error) bool {
	switch failure.Code {
	case codes.Unavailable:
		return true
	case codes.ResourceExhausted:
		return failure.Retryable
	case codes.Canceled, codes.Internal, codes.Unknown:
		return failure.Reason == messengerv1.ErrorReason_ERROR_REASON_UNSPECIFIED
	default:
		return false
	}
}

// stream opens a stream, sends what has no result and what the source gives, and yields results until it ends. The
// error says how; a stream that ended well may leave items to a further one.
func (b *bulk) stream(ctx context.Context, yield yieldFunc) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.AfterFunc(b.client.timeout, cancel)
	stream, accepted, err := b.open(ctx)
	if !timer.Stop() {
		return status.Errorf(codes.Unavailable, "the service did not answer the start within %v", b.client.timeout)
	}
	if err != nil {
		return err
	}
	b.isAccepted, b.acceptedAt = true, time.Now()
	b.account.streamOpened(int(accepted.GetMaxInFlight()))
	var writer sync.WaitGroup
	writer.Go(func() { b.write(stream) })
	defer writer.Wait()
	defer b.account.streamEnded()
	defer cancel()

	received, ended := make(chan []*messengerv1.ItemResult), make(chan error, 1)
	go func() { ended <- receive(ctx, stream, received) }()
	for {
		select {
		case results := <-received:
			for _, result := range results {
				if b.account.settle(result) && !b.yield(yield, result) {
					return errStopped
				}
			}
		case result := <-b.account.refused:
			if !b.yield(yield, result) {
				return errStopped
			}
		case err := <-ended:
			if err == nil {
				err = b.account.whyUnsettled()
			}
			return err
		}
	}
}

func (b *bulk) yield(yield yieldFunc, result *messengerv1.ItemResult) bool {
	b.yielded++
	return yield(result, nil)
}

// open opens a stream and waits until the service has taken the start.
func (b *bulk) open(ctx context.Context) (bulkStream, *messengerv1.BulkAccepted, error) {
	stream, err := b.client.SendBulkMessages(ctx)
	if err != nil {
		return nil, nil, err
	}
	frame := &messengerv1.SendBulkMessagesRequest_Start{Start: b.start}
	// After io.EOF, the answer tells why the stream is over.
	if err := stream.Send(&messengerv1.SendBulkMessagesRequest{Frame: frame}); err != nil && err != io.EOF {
		return nil, nil, err
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, nil, err
	}
	if answer.GetAccepted() == nil {
		return nil, nil, status.Error(codes.FailedPrecondition, "the service did not answer the start with accepted")
	}
	return stream, answer.GetAccepted(), nil
}

// write sends frames until there are no more. Whether that works or not, the receiver learns how the stream ends.
func (b *bulk) write(stream bulkStream) {
	for {
		items := b.account.next()
		if len(items) == 0 {
			_ = stream.CloseSend()
			return
		}
		frame := &messengerv1.SendBulkMessagesRequest_Items{Items: &messengerv1.BulkItems{Items: items}}
		if stream.Send(&messengerv1.SendBulkMessagesRequest{Frame: frame}) != nil {
			return
		}
	}
}

// receive hands on results until the stream ends; nil if it ended with a summary.
func receive(ctx context.Context, stream bulkStream, received chan<- []*messengerv1.ItemResult) error {
	hasSummary := false
	for {
		answer, err := stream.Recv()
		switch {
		case err == io.EOF && hasSummary:
			return nil
		case err == io.EOF:
			return status.Error(codes.Unavailable, "the stream ended without a summary")
		case err != nil:
			return err
		}
		hasSummary = answer.GetSummary() != nil
		if results := answer.GetResults().GetResults(); len(results) > 0 {
			select {
			case received <- results:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

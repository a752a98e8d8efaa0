package messenger

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	messengerv1 "github.com/messenger-connector/messenger-connector/clients/go/messenger/v1"
)

const (
	itemsPerFrameMax = 500
	// A frame of several items stays below.
	frameBytesMax = 512 * 1024
	// The service takes no frame of more than 4 MiB, and an item needs a frame.
	itemBytesMax = 4*1024*1024 - 1024
	// How long a frame with room waits for more items. A frame per item would cost the service dearly.
	frameLinger = time.Millisecond
)

// account has every item of a bulk from when it is taken from the source until its result is yielded. Three goroutines
// share it: one takes items, one writes them, and the caller's own settles them.
type account struct {
	// Results of items that no frame can carry. They are in none of the counts.
	refused chan *messengerv1.ItemResult

	lock    sync.Mutex
	changed sync.Cond
	// Items that the stream has not answered, by item id; those of one id in the order of the source.
	unsettled map[string][]*entry
	// What the stream has not sent yet, in the order of the source.
	queue []*entry
	// Items that were taken from the source, and how many of them have no result.
	taken, waiting int
	// Items that the stream has sent and that have no result, and how many the service allows.
	inFlight, inFlightMax int
	// The source has no more items.
	hasEnded bool
	// Items whose result is not final: they are left to the next stream. Why this one gets no more then, or that they are
	// in progress, which does not concern the others.
	left       []*entry
	heldBack   *messengerv1.SendError
	inProgress *messengerv1.SendError
	// The stream is over.
	isOver bool
}

// entry is an item without a result.
type entry struct {
	item   *messengerv1.BulkItem
	number int
	bytes  int
}

func newAccount() *account {
	a := &account{refused: make(chan *messengerv1.ItemResult), unsettled: map[string][]*entry{}}
	a.changed.L = &a.lock
	return a
}

// wake lets waiting goroutines see that their context has ended.
func (a *account) wake() {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.changed.Broadcast()
}

// take reads the source, as far ahead as there is room.
func (a *account) take(ctx context.Context, items iter.Seq[*messengerv1.BulkItem]) {
	if !a.waitForRoom(ctx) {
		return
	}
	var encoded []byte
	for item := range items {
		var err error
		encoded, err = proto.MarshalOptions{}.MarshalAppend(encoded[:0], item)
		if err == nil && len(encoded) > itemBytesMax {
			err = fmt.Errorf("it has %d bytes, more than %d", len(encoded), itemBytesMax)
		}
		if err == nil {
			a.add(item, len(encoded))
		} else {
			select {
			case a.refused <- refusal(item, err):
			case <-ctx.Done():
			}
		}
		if !a.waitForRoom(ctx) {
			return
		}
	}
	a.lock.Lock()
	defer a.lock.Unlock()
	a.hasEnded = true
	a.changed.Broadcast()
}

// refusal is the result of an item that no frame can carry.
func refusal(item *messengerv1.BulkItem, err error) *messengerv1.ItemResult {
	return &messengerv1.ItemResult{
		ItemId: item.GetItemId(),
		State:  messengerv1.ItemState_ITEM_STATE_REJECTED,
		Outcome: &messengerv1.ItemResult_Error{Error: &messengerv1.SendError{
			Reason:  messengerv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT,
			Message: fmt.Sprintf("the item cannot be encoded: %v", err),
		}},
	}
}

// waitForRoom waits until a further item may be taken; false once the context has ended.
func (a *account) waitForRoom(ctx context.Context) bool {
	a.lock.Lock()
	defer a.lock.Unlock()
	for a.waiting >= a.inFlightMax && ctx.Err() == nil {
		a.changed.Wait()
	}
	return ctx.Err() == nil
}

func (a *account) add(item *messengerv1.BulkItem, bytes int) {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.taken++
	a.waiting++
	added := &entry{item: item, number: a.taken, bytes: bytes}
	a.unsettled[item.GetItemId()] = append(a.unsettled[item.GetItemId()], added)
	a.queue = append(a.queue, added)
	if len(a.queue) == 1 {
		a.changed.Broadcast()
	}
}

// streamOpened puts what earlier streams left into the queue, before further items.
func (a *account) streamOpened(inFlightMax int) {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.queue = a.left
	for _, entries := range a.unsettled {
		a.queue = append(a.queue, entries...)
	}
	slices.SortFunc(a.queue, func(one, other *entry) int { return one.number - other.number })
	clear(a.unsettled)
	for _, queued := range a.queue {
		id := queued.item.GetItemId()
		a.unsettled[id] = append(a.unsettled[id], queued)
	}
	a.inFlight, a.inFlightMax = 0, max(inFlightMax, 1)
	a.left, a.heldBack, a.inProgress, a.isOver = nil, nil, nil, false
	a.changed.Broadcast()
}

// streamEnded lets the writer go.
func (a *account) streamEnded() {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.isOver = true
	a.changed.Broadcast()
}

// next waits for the items of a frame; none means that the stream gets no more.
func (a *account) next() []*messengerv1.BulkItem {
	a.lock.Lock()
	defer a.lock.Unlock()
	hasLingered := false
	for {
		room := min(a.inFlightMax-a.inFlight, itemsPerFrameMax)
		// Nothing but items in progress is there: only another stream can bring their results.
		isIdle := len(a.left) > 0 && len(a.left) == a.waiting
		switch {
		case a.isOver, a.heldBack != nil, isIdle, a.hasEnded && len(a.queue) == 0:
			return nil
		case len(a.queue) == 0, room <= 0:
			a.changed.Wait()
		case len(a.queue) < room && !a.hasEnded && !hasLingered:
			hasLingered = true
			a.lock.Unlock()
			time.Sleep(frameLinger)
			a.lock.Lock()
		default:
			return a.frame(room)
		}
	}
}

// frame takes up to so many items out of the queue.
func (a *account) frame(count int) (items []*messengerv1.BulkItem) {
	bytes := 0
	for _, queued := range a.queue[:min(count, len(a.queue))] {
		bytes += queued.bytes
		if bytes > frameBytesMax && len(items) > 0 {
			break
		}
		items = append(items, queued.item)
	}
	a.queue = slices.Delete(a.queue, 0, len(items))
	a.inFlight += len(items)
	return items
}

// settle takes out the item that a result is for. False if the result is none for the caller: the item is left to a
// further stream, or nobody waits for it.
func (a *account) settle(result *messengerv1.ItemResult) bool {
	a.lock.Lock()
	defer a.lock.Unlock()
	entries := a.unsettled[result.GetItemId()]
	if len(entries) == 0 {
		return false
	}
	a.inFlight--
	a.changed.Broadcast()
	if len(entries) == 1 {
		delete(a.unsettled, result.GetItemId())
	} else {
		a.unsettled[result.GetItemId()] = entries[1:]
	}
	if !isHeldBack(result) {
		a.waiting--
		return true
	}
	a.left = append(a.left, entries[0])
	if isInProgress(result.GetError().GetReason()) {
		a.inProgress = result.GetError()
	} else {
		a.heldBack = result.GetError()
	}
	return false
}

// isHeldBack tells whether a result is not final: nothing was sent, and the item may be sent once the service is well
// again, or has finished what an earlier stream began.
func isHeldBack(result *messengerv1.ItemResult) bool {
	if result.GetState() != messengerv1.ItemState_ITEM_STATE_NOT_SENT {
		return false
	}
	switch reason := result.GetError().GetReason(); reason {
	case messengerv1.ErrorReason_ERROR_REASON_DRAINING, messengerv1.ErrorReason_ERROR_REASON_LEDGER_UNAVAILABLE:
		return true
	default:
		return isInProgress(reason)
	}
}

func isInProgress(reason messengerv1.ErrorReason) bool {
	return reason == messengerv1.ErrorReason_ERROR_REASON_REQUEST_IN_PROGRESS
}

// whyUnsettled is the error of a stream that ended well and yet left items without a result.
func (a *account) whyUnsettled() error {
	a.lock.Lock()
	defer a.lock.Unlock()
	if why := cmp.Or(a.heldBack, a.inProgress); why != nil {
		return newSendError(status.New(codes.Unavailable, why.GetMessage()), why)
	}
	return status.Error(codes.Unavailable, "the service ended the stream before the last result")
}

// isComplete tells whether every item of the source has its result.
func (a *account) isComplete() bool {
	a.lock.Lock()
	defer a.lock.Unlock()
	return a.hasEnded && a.waiting == 0
}

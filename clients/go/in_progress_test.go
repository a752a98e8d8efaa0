package messenger

import (
	"net"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	messengerv1 "github.com/messenger-connector/messenger-connector/clients/go/messenger/v1"
)

// scripted is a service on whose first two streams the message to "1" is in progress; all others are sent.
type scripted struct {
	messengerv1.UnimplementedMessengerServiceServer

	maxInFlight int32
	// Whose messages of the first stream are answered when this one has come; without any entry, its own.
	answeredWith map[string][]string
	// Whose messages came, by stream. The streams of a bulk follow each other.
	streams [][]string
}

func (s *scripted) SendBulkMessages(stream messengerv1.MessengerService_SendBulkMessagesServer) error {
	number := len(s.streams)
	s.streams = append(s.streams, nil)
	results := map[string]*messengerv1.ItemResult{}
	for {
		request, err := stream.Recv()
		if err != nil {
			return stream.Send(&messengerv1.SendBulkMessagesResponse{
				Frame: &messengerv1.SendBulkMessagesResponse_Summary{Summary: &messengerv1.BulkSummary{}},
			})
		}
		if request.GetStart() != nil {
			accepted := &messengerv1.BulkAccepted{BulkId: "b", MaxInFlight: s.maxInFlight}
			if err := stream.Send(&messengerv1.SendBulkMessagesResponse{
				Frame: &messengerv1.SendBulkMessagesResponse_Accepted{Accepted: accepted},
			}); err != nil {
				return err
			}
		}
		for _, item := range request.GetItems().GetItems() {
			recipient := item.GetRecipient().GetId()
			s.streams[number] = append(s.streams[number], recipient)
			results[recipient] = scriptedResult(item.GetItemId(), recipient == "1" && number < 2)
			answered := []string{recipient}
			if number == 0 && s.answeredWith != nil {
				answered = s.answeredWith[recipient]
			}
			answer := &messengerv1.BulkResults{}
			for _, recipient := range answered {
				answer.Results = append(answer.Results, results[recipient])
			}
			if err := stream.Send(&messengerv1.SendBulkMessagesResponse{
				Frame: &messengerv1.SendBulkMessagesResponse_Results{Results: answer},
			}); err != nil {
				return err
			}
		}
	}
}

func scriptedResult(id string, isInProgress bool) *messengerv1.ItemResult {
	if !isInProgress {
		return &messengerv1.ItemResult{ItemId: id, State: messengerv1.ItemState_ITEM_STATE_SENT}
	}
	reason := messengerv1.ErrorReason_ERROR_REASON_REQUEST_IN_PROGRESS
	return &messengerv1.ItemResult{
		ItemId: id, State: messengerv1.ItemState_ITEM_STATE_NOT_SENT,
		Outcome: &messengerv1.ItemResult_Error{Error: &messengerv1.SendError{Reason: reason}},
	}
}

// run sends what the source gives, which is told of the first result, and returns the ids of the results.
func (s *scripted) run(
	t *testing.T, source func(yield func(id, recipient string) bool, hasResult <-chan struct{}),
) (ids []string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	messengerv1.RegisterMessengerServiceServer(server, s)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	client, err := Connect(listener.Addr().String(), Options{ReconnectTimeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	hasResult := make(chan struct{})
	items := func(yield func(*messengerv1.BulkItem) bool) {
		source(func(id, recipient string) bool {
			item := itemTo(recipient)
			item.ItemId = id
			return yield(item)
		}, hasResult)
	}
	for result, err := range client.SendBulk(t.Context(), textStart("Hello"), items).Results() {
		if err != nil {
			t.Fatal(err)
		}
		if len(ids) == 0 {
			close(hasResult)
		}
		ids = append(ids, result.GetItemId())
	}
	return ids
}

func (s *scripted) check(t *testing.T, streams [][]string, gotIDs, ids []string) {
	t.Helper()
	if !slices.EqualFunc(s.streams, streams, slices.Equal) || !slices.Equal(gotIDs, ids) {
		t.Errorf("streams %v, results %v", s.streams, gotIDs)
	}
}

// A further item of the same id gets its own result.
func TestAnItemInProgressHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	s := &scripted{maxInFlight: 100, answeredWith: map[string][]string{"3": {"1", "2"}, "5": {"3", "4", "5"}}}
	ids := s.run(t, func(yield func(id, recipient string) bool, hasResult <-chan struct{}) {
		_ = yield("a", "1") && yield("b", "2") && yield("c", "3")
		<-hasResult
		_ = yield("d", "4") && yield("a", "5")
	})
	s.check(t, [][]string{{"1", "2", "3", "4", "5"}, {"1"}, {"1"}}, ids, []string{"b", "c", "d", "a", "a"})
}

// There is no room for others, or the source gives none.
func TestAStreamWithNothingButItemsInProgressEnds(t *testing.T) {
	t.Parallel()
	for _, maxInFlight := range []int32{1, 100} {
		s := &scripted{maxInFlight: maxInFlight}
		ids := s.run(t, func(yield func(id, recipient string) bool, hasResult <-chan struct{}) {
			_ = yield("a", "1")
			if maxInFlight > 1 {
				<-hasResult
			}
			_ = yield("b", "2")
		})
		s.check(t, [][]string{{"1"}, {"1"}, {"1", "2"}}, ids, []string{"a", "b"})
	}
}

func TestTheWaitForItemsInProgressIsShort(t *testing.T) {
	inProgress := &Error{Reason: messengerv1.ErrorReason_ERROR_REASON_REQUEST_IN_PROGRESS}
	for failures, wanted := range map[int]time.Duration{0: firstWaitMax, 1: 2 * firstWaitMax, 40: 2 * time.Second} {
		if longest := longestWait(failures, inProgress); longest != wanted {
			t.Errorf("after %d: %v", failures, longest)
		}
	}
	if longest := longestWait(40, &Error{}); longest != waitMax {
		t.Error(longest)
	}
}

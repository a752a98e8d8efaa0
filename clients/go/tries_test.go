package messenger

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	messengerv1 "github.com/messenger-connector/messenger-connector/clients/go/messenger/v1"
)

// tryScenario is one of a call, to a service that answers its tries one after another as it is told, and the further
// ones as the last.
type tryScenario struct {
	Name    string
	Answers []struct {
		Code, Reason string
		Receipt      json.RawMessage
	}
	Tries *int
	call
}

// told is that service. It keeps the request ids.
type told struct {
	messengerv1.UnimplementedMessengerServiceServer

	t          *testing.T
	scenario   tryScenario
	requestIDs []string
}

func (s *told) SendTextMessage(
	_ context.Context, request *messengerv1.SendTextMessageRequest,
) (*messengerv1.SendTextMessageResponse, error) {
	answer := s.scenario.Answers[min(len(s.requestIDs), len(s.scenario.Answers)-1)]
	s.requestIDs = append(s.requestIDs, request.GetRequestId())
	if answer.Receipt != nil {
		receipt := &messengerv1.Receipt{}
		if err := protojson.Unmarshal(answer.Receipt, receipt); err != nil {
			s.t.Error(err)
		}
		result := &messengerv1.SendTextMessageResponse_Receipt{Receipt: receipt}
		return &messengerv1.SendTextMessageResponse{Result: result}, nil
	}
	var code codes.Code
	decode(s.t, []byte(strconv.Quote(answer.Code)), &code)
	failure := status.New(code, "told to")
	if answer.Reason != "" {
		reason := messengerv1.ErrorReason(messengerv1.ErrorReason_value[answer.Reason])
		failure, _ = failure.WithDetails(&messengerv1.SendError{Reason: reason, Message: "told to"})
	}
	return nil, failure.Err()
}

// listen starts a service, and returns its address.
func listen(t *testing.T, service messengerv1.MessengerServiceServer) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	messengerv1.RegisterMessengerServiceServer(server, service)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func connectTo(t *testing.T, address string, options Options) *Client {
	t.Helper()
	client, err := Connect(address, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestTries(t *testing.T) {
	for _, scenario := range readScenarios(t).Tries {
		t.Run(scenario.Name, func(t *testing.T) {
			t.Parallel()
			service := &told{t: t, scenario: scenario}
			client := connectTo(t, listen(t, service), Options{})
			scenario.Method, scenario.Request = "SendTextMessage", json.RawMessage("{}")
			failure, _ := makeCall(t, nil, client, scenario.call)().(*Error)
			if failure != nil && failure.RequestID != service.requestIDs[0] {
				t.Errorf("%+v", failure)
			}
			if ids := slices.Compact(slices.Clone(service.requestIDs)); len(ids) != 1 || uuid.Validate(ids[0]) != nil {
				t.Errorf("the tries are not all of one message: %v", ids)
			}
			if tries := len(service.requestIDs); scenario.Tries != nil && tries != *scenario.Tries {
				t.Errorf("%d tries", tries)
			}
		})
	}
}

// streams is a service that keeps the starts. It never accepts the second stream, or none if it is silent.
type streams struct {
	messengerv1.UnimplementedMessengerServiceServer

	isSilent bool
	lock     sync.Mutex
	starts   []*messengerv1.BulkStart
}

func (s *streams) SendBulkMessages(stream messengerv1.MessengerService_SendBulkMessagesServer) error {
	request, err := stream.Recv()
	if err != nil {
		return err
	}
	s.lock.Lock()
	s.starts = append(s.starts, request.GetStart())
	number := len(s.starts)
	s.lock.Unlock()
	if s.isSilent || number == 2 {
		<-stream.Context().Done()
		return nil
	}
	accepted := &messengerv1.SendBulkMessagesResponse_Accepted{Accepted: &messengerv1.BulkAccepted{MaxInFlight: 10}}
	if err := stream.Send(&messengerv1.SendBulkMessagesResponse{Frame: accepted}); err != nil {
		return err
	}
	if number == 1 {
		return status.Error(codes.Unavailable, "lost")
	}
	for {
		request, err := stream.Recv()
		if err != nil {
			summary := &messengerv1.SendBulkMessagesResponse_Summary{Summary: &messengerv1.BulkSummary{}}
			return stream.Send(&messengerv1.SendBulkMessagesResponse{Frame: summary})
		}
		results := &messengerv1.BulkResults{}
		for _, item := range request.GetItems().GetItems() {
			results.Results = append(results.Results, scriptedResult(item.GetItemId(), false))
		}
		frame := &messengerv1.SendBulkMessagesResponse_Results{Results: results}
		if err := stream.Send(&messengerv1.SendBulkMessagesResponse{Frame: frame}); err != nil {
			return err
		}
	}
}

func resend() *messengerv1.BulkStart {
	return &messengerv1.BulkStart{OnUnknown: messengerv1.BulkStart_ON_UNKNOWN_RESEND}
}

// One of them is never accepted, which does not hold the client.
func TestAllStreamsAreOfOneRun(t *testing.T) {
	t.Parallel()
	service := &streams{}
	options := Options{Timeout: 3 * time.Second, ReconnectTimeout: 30 * time.Second}
	items := slices.Values([]*messengerv1.BulkItem{itemTo("1")})
	run := connectTo(t, listen(t, service), options).SendBulk(t.Context(), resend(), items)
	for result, err := range run.Results() {
		if err != nil || result.GetItemId() != "1" {
			t.Error(result, err)
		}
	}
	if len(service.starts) < 3 {
		t.Errorf("%d streams", len(service.starts))
	}
	wanted := resend()
	wanted.BulkId, wanted.RunId = run.BulkID, run.RunID
	for _, start := range service.starts {
		if !proto.Equal(start, wanted) {
			t.Errorf("%v, but wanted %v", start, wanted)
		}
	}
	if uuid.Validate(run.BulkID) != nil || uuid.Validate(run.RunID) != nil || run.BulkID == run.RunID {
		t.Errorf("%s, %s", run.BulkID, run.RunID)
	}
}

func TestACallersOwnNamesStay(t *testing.T) {
	t.Parallel()
	start := &messengerv1.BulkStart{BulkId: "sale", RunId: "again"}
	run := connectTo(t, nothingListens, Options{}).SendBulk(t.Context(), start, nil)
	if run.BulkID != "sale" || run.RunID != "again" {
		t.Errorf("%s, %s", run.BulkID, run.RunID)
	}
}

func TestAServiceThatAcceptsNothingDoesNotHoldABulk(t *testing.T) {
	t.Parallel()
	client := connectTo(t, listen(t, &streams{isSilent: true}), Options{Timeout: 300 * time.Millisecond})
	var failure *Error
	for _, err := range client.SendBulk(t.Context(), resend(), nil).Results() {
		failure, _ = err.(*Error)
	}
	if failure == nil || failure.Code != codes.Unavailable || !failure.Retryable {
		t.Error(failure)
	}
}

// gathering is a service that answers a thousand calls when it has them all.
type gathering struct {
	messengerv1.UnimplementedMessengerServiceServer

	waiting atomic.Int64
	hasAll  chan struct{}
}

func (s *gathering) SendTextMessage(
	ctx context.Context, _ *messengerv1.SendTextMessageRequest,
) (*messengerv1.SendTextMessageResponse, error) {
	if s.waiting.Add(1) == 1000 {
		close(s.hasAll)
	}
	select {
	case <-s.hasAll:
	case <-ctx.Done():
	}
	return &messengerv1.SendTextMessageResponse{}, nil
}

func TestOneClientHasAThousandCallsAtATime(t *testing.T) {
	t.Parallel()
	client := connectTo(t, listen(t, &gathering{hasAll: make(chan struct{})}), Options{})
	var calls sync.WaitGroup
	for range 1000 {
		calls.Go(func() {
			if _, err := client.SendTextMessage(t.Context(), &messengerv1.SendTextMessageRequest{}); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
}

package messenger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	messengerv1 "github.com/messenger-connector/messenger-connector/clients/go/messenger/v1"
)

// The scenarios that every client runs; their form is in ../README.md.
type scenarios struct {
	Calls []callScenario
	Tries []tryScenario
	Bulks []bulkScenario
}

type callScenario struct {
	Name      string
	Service   json.RawMessage
	Connect   connection
	Calls     []call
	Delivered *int
}

type call struct {
	Method               string
	Request              json.RawMessage
	RequestIDOfError     bool  `json:"request_id_of_error"`
	TimeoutMs            int64 `json:"timeout_ms"`
	WithinMs             int64 `json:"within_ms"`
	Background           bool
	CancelWhenDelivered  bool   `json:"cancel_when_delivered"`
	RestartWhenDelivered string `json:"restart_when_delivered"`
	Receipt              *struct {
		HasMessageID bool   `json:"has_message_id"`
		RecipientID  string `json:"recipient_id"`
		Replayed     bool
		Attempts     int32
	}
	Preview *struct {
		URLEnd       string `json:"url_end"`
		BodyContains string `json:"body_contains"`
	}
	Error *wantedError
}

type wantedError struct {
	Code, Reason   string
	Retryable      *bool
	HasRetryAfter  *bool    `json:"has_retry_after"`
	ViolatedFields []string `json:"violated_fields"`
	Graph          *struct{ Code, Subcode int32 }
}

type bulkScenario struct {
	Name        string
	Service     json.RawMessage
	Connect     connection
	Start       json.RawMessage
	Rounds      int
	FillerBytes int `json:"filler_bytes"`
	Items       []struct {
		Item    json.RawMessage
		State   string
		OrState string `json:"or_state"`
		Reason  string
	}
	Delivered  *int
	AheadMax   *int64 `json:"ahead_max"`
	OrStateMax int    `json:"or_state_max"`
	Restart    *struct {
		Signal        string
		WhenDelivered int `json:"when_delivered"`
	}
	CancelAfterResults int `json:"cancel_after_results"`
	Error              *wantedError
}

func readScenarios(t *testing.T) (read scenarios) {
	t.Helper()
	file, err := os.ReadFile("../scenarios.json")
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(file)))
	// What this suite does not know, it would not check.
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&read); err != nil {
		t.Fatal(err)
	}
	return read
}

func TestCalls(t *testing.T) {
	for _, scenario := range readScenarios(t).Calls {
		t.Run(scenario.Name, func(t *testing.T) {
			t.Parallel()
			s := startStack(t, scenario.Service)
			client := s.connect(scenario.Connect)
			var background []func() error
			var last *Error
			for _, call := range scenario.Calls {
				if call.RequestIDOfError {
					call.Request = withID(t, call.Request, last.RequestID)
				}
				if ended := makeCall(t, s, client, call); call.Background {
					background = append(background, ended)
				} else {
					errors.As(ended(), &last)
				}
			}
			for _, ended := range background {
				_ = ended()
			}
			if scenario.Delivered != nil {
				s.waitForDelivered(*scenario.Delivered)
				if delivered := s.state().Delivered; delivered != *scenario.Delivered {
					t.Errorf("delivered: %d", delivered)
				}
			}
		})
	}
}

// withID returns a request in JSON with another id.
func withID(t *testing.T, text []byte, id string) []byte {
	t.Helper()
	request := map[string]any{}
	decode(t, text, &request)
	request["request_id"] = id
	text, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// makeCall starts a call. What it returns waits for its end and checks it.
func makeCall(t *testing.T, s *stack, client *Client, call call) func() error {
	ctx, cancel := context.WithCancel(t.Context())
	if call.TimeoutMs > 0 {
		ctx, cancel = context.WithTimeout(t.Context(), time.Duration(call.TimeoutMs)*time.Millisecond)
	}
	var response proto.Message
	started := time.Now()
	ended := make(chan error, 1)
	go func() {
		var err error
		response, err = invoke(ctx, client, call.Method, call.Request)
		ended <- err
	}()
	if call.Background || call.CancelWhenDelivered || call.RestartWhenDelivered != "" {
		s.waitForDelivered(1)
	}
	if call.RestartWhenDelivered != "" {
		s.restart(call.RestartWhenDelivered)
	}
	return func() error {
		t.Helper()
		defer cancel()
		if call.CancelWhenDelivered {
			cancelled := time.Now()
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(cancelled) > time.Second {
				t.Errorf("%v after %v", err, time.Since(cancelled))
			}
			return nil
		}
		err := <-ended
		if took := time.Since(started); call.WithinMs > 0 && took.Milliseconds() > call.WithinMs {
			t.Errorf("after %v", took)
		}
		check(t, call, response, err)
		return err
	}
}

// with makes a call with a request in JSON.
func with[Request, Response proto.Message](
	ctx context.Context, text []byte, request Request,
	send func(context.Context, Request, ...grpc.CallOption) (Response, error),
) (proto.Message, error) {
	if err := protojson.Unmarshal(text, request); err != nil {
		return nil, err
	}
	return send(ctx, request)
}

func invoke(ctx context.Context, client *Client, method string, request []byte) (proto.Message, error) {
	switch method {
	case "SendTextMessage":
		return with(ctx, request, &messengerv1.SendTextMessageRequest{}, client.SendTextMessage)
	case "SendMediaMessage":
		return with(ctx, request, &messengerv1.SendMediaMessageRequest{}, client.SendMediaMessage)
	case "SendSenderAction":
		return with(ctx, request, &messengerv1.SendSenderActionRequest{}, client.SendSenderAction)
	case "SendTemplateMessage":
		return with(ctx, request, &messengerv1.SendTemplateMessageRequest{}, client.SendTemplateMessage)
	case "GetBulk":
		return with(ctx, request, &messengerv1.GetBulkRequest{}, client.GetBulk)
	default:
		return nil, fmt.Errorf("no such method: %s", method)
	}
}

func check(t *testing.T, call call, response proto.Message, err error) {
	t.Helper()
	if call.Error != nil {
		checkError(t, call.Error, err)
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	sent, ok := response.(interface {
		GetReceipt() *messengerv1.Receipt
		GetPreview() *messengerv1.Preview
	})
	if !ok {
		t.Fatalf("%v", response)
	}
	if wanted, receipt := call.Receipt, sent.GetReceipt(); wanted != nil && (receipt == nil ||
		wanted.HasMessageID != (receipt.GetMessageId() != "") || wanted.RecipientID != receipt.GetRecipientId() ||
		wanted.Replayed != receipt.GetReplayed() || wanted.Attempts != receipt.GetAttempts()) {
		t.Errorf("%+v, %v", wanted, response)
	}
	if wanted, preview := call.Preview, sent.GetPreview(); wanted != nil &&
		(!strings.HasSuffix(preview.GetUrl(), wanted.URLEnd) ||
			!strings.Contains(preview.GetBodyJson(), wanted.BodyContains)) {
		t.Errorf("%+v, %v", wanted, response)
	}
}

func checkError(t *testing.T, wanted *wantedError, err error) {
	t.Helper()
	var got *Error
	if !errors.As(err, &got) {
		t.Fatalf("%v, but wanted %+v", err, wanted)
	}
	if wanted.Code != "" {
		var code codes.Code
		decode(t, []byte(strconv.Quote(wanted.Code)), &code)
		if got.Code != code || status.Code(err) != code {
			t.Errorf("%+v, but wanted %s", got, wanted.Code)
		}
	}
	if wanted.Reason != "" && got.Reason.String() != wanted.Reason ||
		wanted.Retryable != nil && got.Retryable != *wanted.Retryable {
		t.Errorf("%+v, but wanted %+v", got, wanted)
	}
	if wanted.HasRetryAfter != nil && *wanted.HasRetryAfter != (got.RetryAfter > 0) {
		t.Errorf("%v", got.RetryAfter)
	}
	if wanted.Graph != nil &&
		(got.Graph.GetCode() != wanted.Graph.Code || got.Graph.GetSubcode() != wanted.Graph.Subcode) {
		t.Errorf("%v", got.Graph)
	}
	if wanted.ViolatedFields != nil {
		var fields []string
		for _, violation := range got.Violations {
			fields = append(fields, violation.GetField())
		}
		slices.Sort(fields)
		slices.Sort(wanted.ViolatedFields)
		if !slices.Equal(fields, wanted.ViolatedFields) {
			t.Errorf("%v", got.Violations)
		}
	}
}

func TestBulks(t *testing.T) {
	for _, scenario := range readScenarios(t).Bulks {
		t.Run(scenario.Name, func(t *testing.T) {
			t.Parallel()
			run := &bulkRun{
				bulkScenario: scenario, t: t, stack: startStack(t, scenario.Service),
				results: map[string][]*messengerv1.ItemResult{},
			}
			run.do()
		})
	}
}

type bulkRun struct {
	bulkScenario
	t     *testing.T
	stack *stack
	// Items that were taken from the source, and results that were yielded.
	taken, yielded atomic.Int64
	results        map[string][]*messengerv1.ItemResult
}

func (r *bulkRun) do() {
	start := &messengerv1.BulkStart{}
	if err := protojson.Unmarshal(r.Start, start); err != nil {
		r.t.Fatal(err)
	}
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		if r.Restart != nil {
			r.stack.waitForDelivered(r.Restart.WhenDelivered)
			r.stack.restart(r.Restart.Signal)
		}
	}()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	var failure error
	for result, err := range r.stack.connect(r.Connect).SendBulk(ctx, start, r.source()).Results() {
		if err != nil {
			failure = err
			continue
		}
		r.yielded.Add(1)
		r.results[result.GetItemId()] = append(r.results[result.GetItemId()], result)
		if r.yielded.Load() == int64(r.CancelAfterResults) {
			break
		}
	}
	<-restarted
	var sent []string
	switch {
	case r.Error != nil:
		checkError(r.t, r.Error, failure)
		if failure.(*Error).RequestID != "" {
			r.t.Errorf("%+v", failure)
		}
		if r.yielded.Load() > 0 {
			r.t.Errorf("%d results", r.yielded.Load())
		}
	case failure != nil:
		r.t.Fatal(failure)
	case r.CancelAfterResults > 0:
		// The one item that was being waited for.
		taken := r.taken.Load()
		time.Sleep(200 * time.Millisecond)
		if r.taken.Load() > taken+1 {
			r.t.Errorf("%d items taken, then %d", taken, r.taken.Load())
		}
	default:
		sent = r.checkResults()
	}
	r.checkSandbox(sent)
}

func (r *bulkRun) source() iter.Seq[*messengerv1.BulkItem] {
	return func(yield func(*messengerv1.BulkItem) bool) {
		for round := range r.Rounds {
			for _, wanted := range r.Items {
				ahead := r.taken.Add(1) - r.yielded.Load()
				if r.AheadMax != nil && ahead > *r.AheadMax {
					r.t.Errorf("%d items were taken and have no result", ahead)
				}
				if !yield(r.item(wanted.Item, round)) {
					return
				}
			}
		}
	}
}

func (r *bulkRun) item(template []byte, round int) *messengerv1.BulkItem {
	filler := strings.Repeat("x", r.FillerBytes)
	text := strings.NewReplacer("{round}", strconv.Itoa(round), "{filler}", filler).Replace(string(template))
	item := &messengerv1.BulkItem{}
	if err := protojson.Unmarshal([]byte(text), item); err != nil {
		r.t.Error(err)
	}
	return item
}

// checkResults looks at the result of every item that the source gave. Returns the recipients of those that were sent.
func (r *bulkRun) checkResults() (sent []string) {
	orStates := 0
	for round := range r.Rounds {
		for _, wanted := range r.Items {
			item := r.item(wanted.Item, round)
			results := r.results[item.GetItemId()]
			if len(results) == 0 {
				r.t.Fatalf("no result: %v", item)
			}
			result := results[0]
			r.results[item.GetItemId()] = results[1:]
			switch result.GetState().String() {
			case wanted.State:
				if wanted.Reason != "" && wanted.Reason != result.GetError().GetReason().String() {
					r.t.Errorf("%v", result)
				}
			case wanted.OrState:
				orStates++
			default:
				r.t.Errorf("%v", result)
			}
			if result.GetState() == messengerv1.ItemState_ITEM_STATE_SENT {
				sent = append(sent, item.GetRecipient().GetId())
			}
		}
	}
	if orStates > r.OrStateMax {
		r.t.Errorf("%d in the other state", orStates)
	}
	for id, more := range r.results {
		if len(more) > 0 {
			r.t.Errorf("%d results too many: %s", len(more), id)
		}
	}
	return sent
}

// checkSandbox compares what the sandbox got with what the client says was sent.
func (r *bulkRun) checkSandbox(sent []string) {
	state := r.stack.state()
	if state.Duplicates != 0 || r.Delivered != nil && state.Delivered != *r.Delivered {
		r.t.Errorf("%+v", state)
	}
	if r.Delivered != nil {
		return
	}
	var kept struct {
		Messages []struct {
			Body struct{ Recipient struct{ ID string } }
		}
	}
	r.stack.get("/sandbox/messages?limit=100000", &kept)
	delivered := map[string]bool{}
	for _, message := range kept.Messages {
		delivered[message.Body.Recipient.ID] = true
	}
	for _, recipient := range sent {
		if !delivered[recipient] {
			r.t.Errorf("not delivered: %s", recipient)
		}
	}
}

package messenger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	messengerv1 "github.com/messenger-connector/messenger-connector/clients/go/messenger/v1"
)

// Error is how a call failed. [errors.As] finds it; [errors.Is] knows context.Canceled and context.DeadlineExceeded in
// it, and [status.FromError] the gRPC status.
type Error struct {
	// Code is the gRPC code.
	Code codes.Code

	// Reason is what to decide by. It is ERROR_REASON_UNSPECIFIED if the service did not make the error: no
	// connection, a deadline that passed on this side, a call that was cancelled. That does not tell whether the message
	// was sent.
	Reason messengerv1.ErrorReason

	// Message is for a developer's log. It contains no key, recipient or message text.
	Message string

	// Retryable is true if the same request with the same id may succeed and cannot be delivered twice.
	Retryable bool

	// RetryAfter is how long to wait before that. 0 if it is not known.
	RetryAfter time.Duration

	// Graph is what Graph answered; nil if it did not answer with an error.
	Graph *messengerv1.GraphError

	// Violations are the rules that the request breaks, by field.
	Violations []*messengerv1.FieldViolation

	// RequestID is what the request was sent with, also if the client made it up: the same request with it repeats the
	// call, or tells what became of it. Only another message takes another id. Empty if the request has none, as that of a bulk.
	RequestID string

	status *status.Status
}

func newError(err error) *Error {
	if known := (*Error)(nil); errors.As(err, &known) {
		return known
	}
	failed := status.Convert(err)
	for _, detail := range failed.Details() {
		if sendError, ok := detail.(*messengerv1.SendError); ok {
			return newSendError(failed, sendError)
		}
	}
	retryable := failed.Code() == codes.Unavailable
	return &Error{Code: failed.Code(), Message: failed.Message(), Retryable: retryable, status: failed}
}

func newSendError(failed *status.Status, sendError *messengerv1.SendError) *Error {
	return &Error{
		Code:       failed.Code(),
		Reason:     sendError.GetReason(),
		Message:    sendError.GetMessage(),
		Retryable:  sendError.GetRetryable(),
		RetryAfter: sendError.GetRetryAfter().AsDuration(),
		Graph:      sendError.GetGraph(),
		Violations: sendError.GetViolations(),
		status:     failed,
	}
}

// Error tells the reason, the message and every violation in one line.
func (e *Error) Error() string {
	name := e.Code.String()
	if e.Reason != messengerv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		name = strings.TrimPrefix(e.Reason.String(), "ERROR_REASON_")
	}
	var text strings.Builder
	fmt.Fprintf(&text, "messenger: %s: %s", name, e.Message)
	for _, violation := range e.Violations {
		fmt.Fprintf(&text, "; %s: %s", violation.GetField(), violation.GetDescription())
	}
	return text.String()
}

// GRPCStatus is the status that the call ended with.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// Is makes [errors.Is] find the end of a context in an error.
func (e *Error) Is(target error) bool {
	return target == context.Canceled && e.Code == codes.Canceled ||
		target == context.DeadlineExceeded && e.Code == codes.DeadlineExceeded
}

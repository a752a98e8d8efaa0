package messenger

import (
	"encoding/json"
	"strconv"
	"testing"

	messengerv1 "github.com/messenger-connector/messenger-connector/clients/go/messenger/v1"
)

// BenchmarkSendBulk sends items through a service to a sandbox that costs little:
//
//	MESSENGER_CONNECTOR=../../target/release/messenger-connector go test -run '^$' -bench . -benchtime 100000x
func BenchmarkSendBulk(b *testing.B) {
	client := startStack(b, json.RawMessage(`{"sandbox": ["--light"]}`)).connect(connection{})
	start := textStart("The sale has begun.")
	items := func(yield func(*messengerv1.BulkItem) bool) {
		for n := range b.N {
			if !yield(itemTo(strconv.Itoa(n))) {
				return
			}
		}
	}
	b.ResetTimer()
	sent := 0
	for result, err := range client.SendBulk(b.Context(), start, items).Results() {
		if err != nil {
			b.Fatal(err)
		}
		if result.GetState() == messengerv1.ItemState_ITEM_STATE_SENT {
			sent++
		}
	}
	if sent != b.N {
		b.Fatalf("%d of %d sent", sent, b.N)
	}
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "messages/s")
}

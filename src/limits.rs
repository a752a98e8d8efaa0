//! Every limit of the system, with its source. Meta's limits are those of its 2026 documentation.

use std::time::Duration;

/// Characters of a text, counted as Unicode scalar values after rendering. Graph answers "must be less than
/// or equal to 2000"; whether Meta counts scalar values or UTF-16 units is not documented.
pub const TEXT_LENGTH_MAX: usize = 2000;
/// Characters of the metadata (Send API reference).
pub const METADATA_LENGTH_MAX: usize = 1000;
/// Quick replies of a message (quick reply page of 2026-06-17; 11 in copies before 2019).
pub const QUICK_REPLIES_MAX: usize = 13;
/// Characters of a quick reply payload (quick reply page).
pub const QUICK_REPLY_PAYLOAD_LENGTH_MAX: usize = 1000;
/// Messages of one Graph batch call (batch guide).
pub const BATCH_SIZE_MAX: usize = 50;

/// Elements of a generic or product template (template pages).
pub const TEMPLATE_ELEMENTS_MAX: usize = 10;
/// Elements of a receipt template.
pub const RECEIPT_ELEMENTS_MAX: usize = 100;
/// Buttons of a template or of one of its elements.
pub const BUTTONS_MAX: usize = 3;
/// Fewest images of an image_grid template.
pub const IMAGE_GRID_IMAGES_MIN: usize = 2;
/// Most images of an image_grid template.
pub const IMAGE_GRID_IMAGES_MAX: usize = 6;

/// Characters of a `request_id`, `bulk_id` or `item_id`: room for two UUIDs and a name. A longer `item_id` is refused,
/// and told back cut to this.
pub const ID_LENGTH_MAX: usize = 128;

/// Violations that an error names; a last one counts the rest. More would not fit into the 8 KiB of trailers
/// that Python and C++ clients accept.
pub const VIOLATIONS_MAX: usize = 25;
/// Bytes of the error details of one gRPC status, for the same reason.
pub const ERROR_DETAILS_BYTES_MAX: usize = 4 * 1024;

/// Bytes of one gRPC message in either direction; gRPC's own default, which all clients share.
pub const GRPC_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of one message of a health check, which anybody may make.
pub const PROBE_BYTES_MAX: usize = 4 * 1024;
/// KiB of one unary request, and of one item of a bulk: ten times what a message with its variables has in practice.
pub const UNARY_REQUEST_KIB_MAX: usize = 1024;
/// The same in bytes.
pub const UNARY_REQUEST_BYTES_MAX: usize = UNARY_REQUEST_KIB_MAX * 1024;
/// Bytes of a request that each call may have here undecoded, whatever the others have: with 2,000 calls 32 MiB.
pub const REQUEST_BYTES_OF_EACH: usize = 16 * 1024;
/// Bytes of larger requests that the calls of one caller may have here together: eight of the largest frames.
pub const REQUEST_BYTES_OF_CALLER: usize = 32 * 1024 * 1024;
/// Calls that one connection may have open: a client library has one connection, and calls that wait for Graph are many.
pub const CONNECTION_STREAMS_MAX: u32 = 1024;
/// Flow-control window of one stream, in bytes: about 6,500 items of 200 bytes a second at 50 ms round trip.
pub const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Flow-control window of one connection, in bytes. The HTTP/2 library ends a connection whose unread small
/// frames pass half of it, counting 256 bytes for each. Twice what `CONNECTION_STREAMS_MAX` stalled streams of
/// 40-byte items need: 2 * 1024 * (64 KiB / 45) * (512 - 45) = 1.39 GB. A promise, not an allocation: what is unread is
/// bounded by the streams that a caller may have, and by [`REQUEST_BYTES_OF_CALLER`].
pub const CONNECTION_WINDOW_BYTES: u32 = 1400 * 1024 * 1024;
/// Calls that a client may reset before the service has seen them; more end their connection. A client whose deadline
/// passes resets many at once, but only those that were just begun count.
pub const CONNECTION_PENDING_RESETS_MAX: usize = 100;

/// Connections that one port serves at a time, at some tens of KiB each. For one more, one that has no call goes.
pub const CONNECTIONS_MAX: usize = 4096;
/// Of these, the ones from one address. Many callers may share one: behind a proxy, or in tests.
pub const CONNECTIONS_OF_PEER_MAX: usize = 3072;
/// How long a connection may be open and have no call, if no caller ever made one over it.
pub const CONNECTION_UNUSED_MAX: Duration = Duration::from_secs(10);
/// How long a connection that is given up has to hear of it.
pub const CONNECTION_GOAWAY_TIME: Duration = Duration::from_secs(1);
/// Health checks, watches included, that one connection may have open: one for each name, twice.
pub const CONNECTION_PROBES_MAX: usize = 8;
/// Health watches that a port may have open: anybody may open them, and they last.
pub const WATCHES_MAX: usize = 1000;
/// How long the request of a health check may take to come in.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take from connecting to its first request: TLS handshake and HTTP/2 preface. Clients send both
/// at once.
pub const CONNECTION_OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a shutdown may wait for what was started unless configured otherwise: a little longer than any call to Graph
/// takes, [`GRAPH_MEDIA_CALL_TIMEOUT`].
pub const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(100);
/// How long connections have after that to be told that the outcome of what is still being sent is unknown.
pub const DRAIN_ANSWER_TIME: Duration = Duration::from_secs(2);
/// How long to wait after a connection could not be accepted: usually file descriptors ran out.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a shutdown waits for a collector to take what is left, of metrics and of traces each.
pub const COLLECTOR_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that the admin port serves at a time: a few probes and Prometheus.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// How long a connection to the admin port lasts.
pub const ADMIN_CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);

/// How long a unary call may take if its caller sets no deadline.
pub const UNARY_DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
/// How long a unary call may take, whatever deadline its caller sets.
pub const UNARY_DEADLINE_MAX: Duration = Duration::from_secs(60);

/// Bulk streams that one caller may have open unless configured otherwise: as many as one connection has.
pub const CALLER_STREAMS_DEFAULT: usize = 100;
/// Unary calls that one caller may have in flight unless configured otherwise: what a page sends in seven seconds, at
/// 300 per second.
pub const CALLER_REQUESTS_IN_FLIGHT_DEFAULT: usize = 2000;

/// Items that one bulk stream may have in flight unless configured otherwise: at 100 ms of Graph latency
/// enough for 50,000 messages a second, at about 1 KiB each.
pub const BULK_IN_FLIGHT_DEFAULT: usize = 5000;
/// Items that every bulk stream may hold, whatever the others hold.
pub const BULK_ITEMS_OF_EACH: usize = 100;
/// Items beyond these that all bulk streams of this process may hold together: about 100 MiB, also if nobody reads their
/// results.
pub const BULK_ITEMS_SHARED: usize = 100_000;
/// How long a bulk stream may take to send its start.
pub const BULK_START_TIMEOUT: Duration = Duration::from_secs(10);
/// Items of one frame: the contract says some hundred. A frame is held until its last item has found room.
pub const ITEMS_PER_FRAME_MAX: usize = 50_000;
/// Item results that one frame carries at most: about 100 KiB.
pub const RESULTS_PER_FRAME_MAX: usize = 500;
/// Bytes of one frame of results: far less than [`GRPC_MESSAGE_BYTES_MAX`], whatever the errors in it say.
pub const RESULTS_FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Unary messages of one page that may wait; more are refused with RATE_LIMITED.
pub const UNARY_QUEUED_MAX: usize = 10_000;
/// Graph calls of each kind of message that one page may have in flight. At 100 ms of Graph latency, 64 batches of 50 are
/// 32,000 messages a second; the ledger's part of a call counts, so fewer would leave a fast Graph idle.
pub const PAGE_CALLS_IN_FLIGHT_MAX: usize = 64;
/// Calls that it may have in flight at first, and after a pause; each call that Graph answers allows one more. A page
/// whose token is refused has not tried thousands of messages by the time it is told.
pub const PAGE_CALLS_IN_FLIGHT_FIRST: usize = 16;
/// Of these, the ones that bulk messages leave free for unary ones.
pub const PAGE_CALLS_UNARY_RESERVED: usize = 8;

/// How long to wait for a TCP and TLS connection to Graph.
pub const GRAPH_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 connections to Graph that take calls; with the streams of each, 10,000 calls in flight.
pub const GRAPH_CONNECTIONS_MAX: usize = 100;
/// Calls that one HTTP/2 connection to Graph carries at a time, if Graph does not allow fewer: what most servers allow.
pub const GRAPH_STREAMS_MAX: usize = 100;
/// Flow-control window of one answer of Graph, in bytes: more than a batch of 50 answers with headers has.
pub const GRAPH_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Flow-control window of one connection to Graph, in bytes: every answer is read as it comes, so that a part of
/// `GRAPH_STREAMS_MAX` streams suffices.
pub const GRAPH_CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// How long an HTTP/2 connection may be silent while calls wait on it, until it is asked for a sign of life.
pub const GRAPH_PING_INTERVAL: Duration = Duration::from_secs(4);
/// How long it may take for the sign. With the interval this is what a connection that hangs costs.
pub const GRAPH_PING_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a connection to Graph may be idle and still be used again, if nothing shorter is known of the other side.
/// Most servers and load balancers keep idle ones for a minute or longer.
pub const GRAPH_IDLE_MAX: Duration = Duration::from_secs(30);
/// How long it counts that the other side closed a connection after a shorter time: longer than `GRAPH_IDLE_MAX`, so that
/// spare connections show it anew before it is forgotten.
pub const GRAPH_IDLE_MEMORY: Duration = Duration::from_secs(60);
/// How long to wait for Graph's answer.
pub const GRAPH_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait for the answer to a media message: Graph fetches the media first, for up to 75 seconds.
pub const GRAPH_MEDIA_CALL_TIMEOUT: Duration = Duration::from_secs(90);
/// Bytes of a Graph answer that are read: a batch of 50 answers with headers is about 60 KiB.
pub const GRAPH_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a start waits for Graph to tell the id of a page that was configured without one. After that the service
/// takes calls, and refuses those for this page until it knows.
pub const PAGE_ID_TIMEOUT: Duration = Duration::from_secs(3);
/// How often it asks again if Graph could not be reached.
pub const PAGE_ID_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// How often pages, callers, certificates and the secrets they name are read again. Mounted Kubernetes secrets change by
/// symbolic link, which file notifications miss.
pub const FILES_RELOAD_INTERVAL: Duration = Duration::from_secs(2);
/// Characters of a page id.
pub const PAGE_ID_LENGTH_MAX: usize = 64;
/// Characters of a recipient's identifier; Meta documents none. Real ones have at most a few dozen.
pub const RECIPIENT_LENGTH_MAX: usize = 1000;

// A template comes from a caller, so every quantity that it can grow is bounded. Going over a budget is an ordinary
// error that names the budget; nothing is cut silently.

/// Bytes of one template's source. The longest field that is a template is the template payload, a few
/// kilobytes of JSON in practice; the text field renders to at most 2,000 characters.
pub const TEMPLATE_SOURCE_BYTES_MAX: usize = 64 * 1024;

/// Tags in one template. A payload of 13 elements written out by hand with ten tags each has 130.
pub const TEMPLATE_TAGS_MAX: usize = 2_000;

/// Bytes of one name in a template, dots included. Names of attributes are far shorter; names also go into
/// errors.
pub const TEMPLATE_NAME_BYTES_MAX: usize = 256;

/// Sections and helper blocks inside one another. Rendering recurses once per level, so this also bounds the
/// stack; hand-written templates stay under ten.
pub const TEMPLATE_NESTING_MAX: usize = 32;

/// Bytes of rendered text, also of the text that a block such as `{{#md5}}` works on. Far above what a
/// message can carry, so that a large array can still be hashed, and small enough to hold for every message
/// in flight.
pub const TEMPLATE_OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// Steps of one rendering: a tag, an operand, an iteration, an element looked at by a helper and each
/// [`TEMPLATE_BYTES_PER_STEP`] bytes of text written or worked on count one; dearer work counts more. Arrays
/// have up to 30,000 entries (Tealium's limit for attributes): one loop over such an array with half a dozen
/// tags in it passes, a loop inside that loop does not. A step takes some tens of nanoseconds, so the budget
/// is also a bound on time: 10 to 30 ms.
pub const TEMPLATE_STEPS_MAX: u64 = 500_000;

/// Steps of one message, all of its texts together, and one for each value of aligned arrays: two renderings as long as
/// one may be.
pub const MESSAGE_STEPS_MAX: u64 = 2 * TEMPLATE_STEPS_MAX;
/// Steps that a message may take where it comes in: some tenths of a millisecond. One that takes more, and one whose
/// request has more bytes than [`LIGHT_REQUEST_BYTES_MAX`], is made on the threads for heavy work.
pub const LIGHT_STEPS_MAX: u64 = 5_000;
/// Bytes of a request whose message is made where it comes in: some thousand values, or tens of KiB once decoded.
pub const LIGHT_REQUEST_BYTES_MAX: usize = 8 * 1024;

/// Bytes of text that count as one step.
pub const TEMPLATE_BYTES_PER_STEP: usize = 32;

/// Bytes of one number in text. The longest plain decimal of a double has 342.
pub const TEMPLATE_NUMBER_BYTES_MAX: usize = 512;

/// Levels of lists and maps inside a value read from JSON text. Deeper data has no use in a message, and
/// reading, printing and dropping a value recurse once per level.
pub const TEMPLATE_VALUE_DEPTH_MAX: usize = 32;

/// Values that one prefix of dotted names may come to, counting what is repeated in every object: ten fields
/// of 30,000 entries. Without it a short request could ask for lists that fill the memory.
pub const TEMPLATE_ALIGNED_VALUES_MAX: usize = 300_000;
/// How long the ledger keeps an outcome unless configured otherwise, counted from its last claim,
/// in time that a service had the ledger open.
pub const LEDGER_RETENTION_DEFAULT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Marks of time that the ledger keeps for one retention: it is precise to one 64th.
pub const LEDGER_MARKS: u32 = 64;
/// Difference between a wall clock and a steady one from which on the wall clock has jumped. NTP corrects less by slewing.
pub const LEDGER_CLOCK_JUMP: Duration = Duration::from_secs(10);
/// Records that a copy of a ledger takes at a time.
pub const LEDGER_COPY_ROWS: u32 = 1000;
/// How often a service looks whether its SQLite file is still where it was.
pub const SQLITE_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the ledger looks for records older than that.
pub const LEDGER_SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Records that one step of a sweep looks at or removes: some milliseconds, so that claims hardly wait for it.
pub const LEDGER_SWEEP_ROWS: i64 = 1000;
/// How long the ledger pauses between two steps of a sweep.
pub const LEDGER_SWEEP_PAUSE: Duration = Duration::from_millis(100);
/// Runs of a bulk that the ledger remembers of one message: each is a person's decision to send it again.
pub const LEDGER_RUNS_MAX: usize = 32;
/// Claims, and settlements, that one transaction of the ledger takes; with the group that reaches them it is full.
pub const LEDGER_WRITE_ROWS_MAX: usize = 5000;
/// The same while unary messages come, which wait for the transaction that is being written: two full batches, 1 ms.
pub const LEDGER_WRITE_ROWS_BESIDE_UNARY: usize = 2 * BATCH_SIZE_MAX;
/// How long transactions stay short after a unary message.
pub const LEDGER_UNARY_MEMORY: Duration = Duration::from_secs(1);
/// Outcomes that the ledger keeps in memory while its database is away, at about 300 bytes each. Nothing is
/// claimed meanwhile, so only calls that were under way add to them.
pub const LEDGER_UNSETTLED_MAX: usize = 100_000;
/// How long a claim or a settlement waits for the ledger.
pub const LEDGER_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a ledger whose database is away looks whether it is back.
pub const LEDGER_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a replica's claims stay its own after its last sign of life. It gives one every third of this.
pub const LEDGER_LEASE: Duration = Duration::from_secs(15);
/// How long SQLite waits for another process to unlock the file.
pub const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait for a connection to Postgres, and for one transaction.
pub const POSTGRES_TIMEOUT: Duration = Duration::from_secs(4);
/// How long to wait for Postgres to count or list the items of one bulk, and to migrate.
pub const POSTGRES_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections of one replica to Postgres for reads that may take long. Beside them it has two that claim and settle, and one
/// each for its lease and its shares.
pub const POSTGRES_READ_CONNECTIONS_MAX: u32 = 2;
/// Connections for short reads, which bulk streams wait for.
pub const POSTGRES_FIND_CONNECTIONS_MAX: u32 = 2;
/// How often a write is tried that replicas kept each other from doing.
pub const POSTGRES_CONFLICTS_MAX: u32 = 5;
/// Groups of pages whose shares are given at the same time.
pub const SHARE_GROUPS: u8 = 16;
/// Reads of whole bulks that one process makes at a time.
pub const LEDGER_READS_MAX: usize = 2;

/// Results of one page of ListBulkResults unless the request says otherwise.
pub const RESULTS_PAGE_DEFAULT: u32 = 100;
/// Most results of one page of ListBulkResults: about 200 KiB.
pub const RESULTS_PAGE_MAX: u32 = 1000;

/// Attempts that the circuit of a page looks back on.
pub const CIRCUIT_ATTEMPTS: usize = 100;
/// Share of them that may end unknown or in a passing fault before the page pauses, in percent.
pub const CIRCUIT_TROUBLE_PERCENT: usize = 40;
/// Messages that go to see whether a page whose calls failed is well again.
pub const CIRCUIT_TRIES: usize = 10;
/// Longest pause of a page whose calls fail.
pub const CIRCUIT_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Length of the first pause of a page that Graph throttles, or whose calls fail, if Graph does not say; each pause in
/// a row is twice as long.
pub const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// Longest pause of a page that Graph throttles.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Longest pause of such a page if Graph says how long: a message goes to see in between, in case it errs.
pub const PAUSE_TOLD_MAX: Duration = Duration::from_secs(5 * 60);
/// Refusals in a row, each to somebody else, that may be about a message or about the page: then they are about the page.
pub const SUSPECTED_IN_A_ROW: usize = 10;
/// How long a suspended page waits before its token is tried again; twice as long each time.
pub const PROBE_FIRST: Duration = Duration::from_secs(5);
/// Longest of these waits.
pub const PROBE_MAX: Duration = Duration::from_secs(15 * 60);
/// How often a suspended page is looked at, in case its token was replaced.
pub const SUSPENDED_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Attempts of one message that was surely not sent.
pub const ATTEMPTS_MAX: u32 = 5;
/// Attempts of one message that Graph throttles again and again, while its page pauses in between: seven minutes at the
/// pauses that Graph does not name. Other messages are tried before it.
pub const THROTTLED_ATTEMPTS_MAX: u32 = 12;
/// Longest pause before the second attempt of a message; twice as long each time.
pub const RETRY_FIRST: Duration = Duration::from_millis(400);
/// Longest of these pauses.
pub const RETRY_MAX: Duration = Duration::from_secs(20);
/// Messages that Graph takes for each retry that a page may make, so that a failing Graph is not called much more.
pub const SENDS_PER_RETRY: u32 = 10;
/// Retries that a page may make beyond that share.
pub const RETRIES_SPARE: u32 = 100;
/// From this share of Graph's budget on, in percent, a page slows down.
pub const USAGE_SLOW_PERCENT: f64 = 80.0;
/// How long a page goes by the last usage header that it got.
pub const USAGE_MEMORY: Duration = Duration::from_secs(30);
/// How often waiting messages are looked through for those past their deadline, at most.
pub const EXPIRY_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// How much longer the wait is for each message to look through, which takes a hundredth of this.
pub const EXPIRY_INTERVAL_PER_MESSAGE: Duration = Duration::from_micros(10);

/// How long a replica may use its share of a page's rate after it last asked. When it dies, the others have the whole
/// rate after this and one more interval.
pub const SHARE_LEASE: Duration = Duration::from_secs(3);
/// How long a message counts against a page's rate: a second, and what the network may close up between two sends.
pub const RATE_WINDOW: Duration = Duration::from_millis(1003);
/// How long one replica keeps what cannot be divided among all, such as the one message of a rate of one per second.
pub const SHARE_TURN: Duration = Duration::from_secs(10);
/// How long after its last message a page asks for no share any more. Its next message waits for one, some milliseconds.
pub const SHARE_IDLE: Duration = Duration::from_secs(10 * 60);
/// How often a replica asks for its shares.
pub const SHARE_INTERVAL: Duration = Duration::from_millis(500);
/// How long it lets pass between two asks, however many messages wait for a share.
pub const SHARE_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// How long a replica waits for them.
pub const SHARE_TIMEOUT: Duration = Duration::from_secs(1);

use super::*;

/// A service that drains gives what it read a result first; any other end leaves the rest in doubt.
#[test]
fn rows_without_a_result_at_the_end() {
    let draining = status::status(SendError::new(Reason::Draining, "shutting down"));
    let unavailable = status::status(SendError::new(Reason::GraphUnavailable, "gone"));
    let cases = [
        (End::Broken(Some(draining)), ["2,a,NOT_SENT", "3,b,NOT_SENT", "4,a,NOT_SENT"], 0),
        (End::Broken(Some(unavailable)), ["2,a,NO_RESULT", "3,b,NO_RESULT", "4,a,NO_RESULT"], 3),
        (End::Broken(None), ["2,a,NO_RESULT", "3,b,NO_RESULT", "4,a,NO_RESULT"], 3),
    ];
    for (end, expected, in_flight) in cases {
        let folder = tempfile::tempdir().unwrap();
        let file = ResultsFile { path: folder.path().join("results.csv"), overwrite: false };
        let (progress, watched) = watch::channel(Progress { rows: 3, ..Progress::default() });
        let mut stream = Stream {
            rows: mpsc::channel(1).1,
            frames: None,
            framed: VecDeque::new(),
            lines: HashMap::from([("a".to_owned(), [2, 4].into()), ("b".to_owned(), [3].into())]),
            in_flight: 3,
            in_flight_max: 3,
            results: file.create().unwrap(),
            progress: &progress,
            audience_error: None,
        };
        stream.note_rows_without_result(&end).unwrap();
        let text = std::fs::read_to_string(&file.path).unwrap();
        let starts: Vec<String> =
            text.lines().skip(1).map(|line| line.split(',').take(3).collect::<Vec<_>>().join(",")).collect();
        assert_eq!(starts, expected, "{end:?}");
        assert_eq!(watched.borrow().in_flight(), in_flight, "{end:?}");
    }
}

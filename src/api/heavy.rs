//! Work that takes long: messages whose request is large, or whose templates loop over much.
//!
//! It is done on a few threads of its own, which leave the processor to all others, and one piece at a time for each
//! caller. So whoever asks for much waits for it, and nobody else does.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::{Semaphore, oneshot};

/// How much the threads leave to others, from 0 to 19 (`nice`): they get about a tenth of what a normal thread gets.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// The threads for heavy work. They end when the last of these is dropped.
#[derive(Clone)]
pub struct HeavyWork(Sender<Job>);

/// Room for one piece of heavy work of a caller.
#[derive(Clone, Debug)]
pub(super) struct HeavyTurn(Arc<Semaphore>);

impl Default for HeavyTurn {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl fmt::Debug for HeavyWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeavyWork")
    }
}

impl HeavyWork {
    /// Starts the threads: half as many as there are processors.
    ///
    /// # Errors
    /// If the operating system has no thread left.
    pub fn start() -> std::io::Result<Self> {
        let (sender, jobs) = channel();
        let jobs = Arc::new(Mutex::new(jobs));
        let count = thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2));
        for _ in 0..count {
            let jobs = jobs.clone();
            thread::Builder::new().name("heavy-work".to_owned()).spawn(move || work(&jobs))?;
        }
        Ok(Self(sender))
    }

    /// Does a piece of work once it is the caller's turn, and returns what came of it; `None` if it panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        turn: &HeavyTurn,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // It goes with the work, which is not undone if its caller leaves.
        let turn = turn.0.clone().acquire_owned().await.ok()?;
        let (sender, done) = oneshot::channel();
        let job = move || {
            if !sender.is_closed() {
                drop(sender.send(work()));
            }
            drop(turn);
        };
        self.0.send(Box::new(job)).ok()?;
        done.await.ok()
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!(%error, "heavy work has the priority of all other work");
    }
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // The panic hook has logged it, and whoever waits is told by what is dropped.
        let _panicked = std::panic::catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_one_at_a_time_for_a_caller_and_a_panic_is_no_end() {
        let heavy = HeavyWork::start().unwrap();
        let (greedy, modest) = (HeavyTurn::default(), HeavyTurn::default());
        assert_eq!(heavy.run(&modest, || 7).await, Some(7));
        assert_eq!(heavy.run(&modest, || -> u8 { panic!("as a bug would") }).await, None);
        let order = Arc::new(Mutex::new(Vec::new()));
        let (release, held) = channel::<()>();
        let note = |what: &'static str| {
            let order = order.clone();
            move || order.lock().unwrap().push(what)
        };
        // Another caller's work comes after the first of a greedy one's at most, however much waits.
        let (first, second, other) = (note("first"), note("second"), note("other"));
        let first = heavy.run(&greedy, move || {
            held.recv().unwrap();
            first();
        });
        let other = async {
            tokio::task::yield_now().await;
            let work = heavy.run(&modest, other);
            release.send(()).unwrap();
            work.await
        };
        tokio::join!(first, heavy.run(&greedy, second), other);
        let order = order.lock().unwrap().clone();
        assert_eq!(order.len(), 3);
        assert!(
            order.iter().position(|what| *what == "first") < order.iter().position(|what| *what == "second")
        );
    }
}

//! Parts of the service that must not end before it: if one of them panics, the service ends too, loudly.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a service listens to, and its parts hold.
#[derive(Clone, Debug)]
pub struct Lifeline(Arc<watch::Sender<Option<&'static str>>>);

impl Default for Lifeline {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

/// Tells when it is dropped by a panic.
struct Part {
    name: &'static str,
    lifeline: Lifeline,
}

impl Drop for Part {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.lifeline.report(self.name);
        }
    }
}

impl Lifeline {
    /// Runs a part in a task of its own. `name` is told if it panics.
    pub fn spawn<F>(&self, name: &'static str, part: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let guard = Part { name, lifeline: self.clone() };
        tokio::spawn(async move {
            let _guard = guard;
            part.await
        })
    }

    /// A part has died, whichever way.
    pub fn report(&self, name: &'static str) {
        self.0.send_if_modified(|dead| {
            let is_first = dead.is_none();
            dead.get_or_insert(name);
            is_first
        });
    }

    /// Returns the name of the first part that dies, once one does.
    pub async fn broken(&self) -> &'static str {
        let mut dead = self.0.subscribe();
        let name = dead.wait_for(Option::is_some).await.ok().and_then(|name| *name);
        match name {
            Some(name) => name,
            // The sender is held here.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_and_an_end_is_not() {
        let lifeline = Lifeline::default();
        assert_eq!(lifeline.spawn("ends", async { 7 }).await.unwrap(), 7);
        lifeline.spawn("is aborted", std::future::pending::<()>()).abort();
        assert_eq!(lifeline.broken().now_or_never(), None);
        assert!(lifeline.spawn("panics", async { panic!("as a bug would") }).await.is_err());
        lifeline.report("a second one");
        assert_eq!(lifeline.broken().await, "panics");
    }
}

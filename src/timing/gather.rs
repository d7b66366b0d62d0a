//! One call for all who wait: while one is under way, the next one collects all who ask.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

type Waiting<K, T> = Vec<(K, oneshot::Sender<T>)>;

/// Questions `K` with their answers `T`.
#[derive(Debug)]
pub struct Gather<K, T> {
    waiting: Mutex<Waiting<K, T>>,
    turn: tokio::sync::Mutex<()>,
}

impl<K, T> Default for Gather<K, T> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }
}

impl<K: Clone + Send, T: Send> Gather<K, T> {
    /// Asks together with at most `most` in all. `call` answers every question of one call, in order. If the one that made
    /// the call stops waiting for it, the others ask again.
    pub async fn ask<F>(&self, question: K, most: usize, call: impl Fn(Vec<K>) -> F) -> T
    where
        F: Future<Output = Vec<T>>,
    {
        let mut answer = self.push(&question);
        // Whoever is about to ask comes along.
        tokio::task::yield_now().await;
        loop {
            let _turn = self.turn.lock().await;
            match answer.try_recv() {
                Ok(answer) => return answer,
                Err(oneshot::error::TryRecvError::Closed) => answer = self.push(&question),
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let asked: Waiting<K, T> = {
                let mut waiting = self.lock();
                let count = most.min(waiting.len());
                waiting.drain(..count).collect()
            };
            let (questions, senders): (Vec<K>, Vec<_>) = asked.into_iter().unzip();
            let answers = call(questions).await;
            for (sender, answer) in senders.into_iter().zip(answers) {
                // Whoever asked may have stopped waiting.
                let _ = sender.send(answer);
            }
        }
    }

    fn push(&self, question: &K) -> oneshot::Receiver<T> {
        let (sender, answer) = oneshot::channel();
        self.lock().push((question.clone(), sender));
        answer
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting<K, T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_while_a_call_is_under_way_shares_the_next_one() {
        let (gather, calls) = (Gather::<u32, u32>::default(), Mutex::new(vec![]));
        let call = |questions: Vec<u32>| {
            calls.lock().unwrap().push(questions.clone());
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                questions.iter().map(|question| question * 10).collect()
            }
        };
        let late = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            join_all((5..8).map(|n| gather.ask(n, 2, &call))).await
        };
        let (first, second) = tokio::join!(join_all((0..3).map(|n| gather.ask(n, 3, &call))), late);
        assert_eq!(first, [0, 10, 20]);
        assert_eq!(second, [50, 60, 70]);
        assert_eq!(*calls.lock().unwrap(), [vec![0, 1, 2], vec![5, 6], vec![7]]);
    }

    /// The one that makes the call gives up while it is under way, as a look does of which another read has failed.
    #[tokio::test(start_paused = true)]
    async fn whoever_shares_a_call_that_is_given_up_has_it_made_again() {
        let gather = Gather::<u32, u32>::default();
        let call = |questions: Vec<u32>| async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            questions.iter().map(|question| question * 10).collect()
        };
        let fails = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Err::<(), _>("another read")
        };
        let first = async { tokio::try_join!(async { Ok(gather.ask(1, 3, call).await) }, fails) };
        let (first, second, third) = tokio::join!(first, gather.ask(2, 3, call), gather.ask(3, 3, call));
        assert_eq!((first, second, third), (Err("another read"), 20, 30));
    }
}

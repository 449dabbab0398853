//! A read that may take long, as KEYS and LCS may. Another thread carries it out and encodes its reply, so that
//! other clients are served meanwhile (P3), also where one thread serves all of them.

use std::sync::Arc;
use std::time::Instant;

use super::commands::outcome;
use super::session::Session;
use crate::command::{ReadFn, Reply, Spec};
use crate::metrics::Calls;
use crate::protocol::{self, Dialect, Output};

/// A request for one. It has been admitted, and nothing more is taken of its client until it is answered.
#[derive(Debug)]
pub(super) struct LongRead {
    spec: &'static Spec,
    run: ReadFn,
    /// The words of the request, the name among them.
    words: Arc<[Vec<u8>]>,
    dialect: Dialect,
}

impl LongRead {
    pub(super) fn new(
        spec: &'static Spec,
        run: ReadFn,
        request: &[&[u8]],
        dialect: Dialect,
    ) -> Self {
        Self {
            spec,
            run,
            words: request.iter().map(|word| word.to_vec()).collect(),
            dialect,
        }
    }
}

impl Session {
    /// Has it carried out, and answers and counts it; all replies before it are written. What it waited for a
    /// thread is not counted. Says whether it was carried out: a server that ends has no threads left.
    pub(super) async fn answer_long(&mut self, long: LongRead) -> bool {
        let LongRead {
            spec,
            run,
            words,
            dialect,
        } = long;
        let (shared, count) = (Arc::clone(&self.shared), words.len());
        let command = (spec, self.number_of(spec));
        let answer = move |reply: Reply| {
            let call = outcome(&shared.console.metrics, command, count, &reply);
            let mut out = Output::default();
            protocol::encode(reply, dialect, &mut out);
            (call, out)
        };
        let engine = &self.shared.engine;
        let Some(((call, out), took)) = engine.read_long(run, Arc::clone(&words), answer).await
        else {
            return false;
        };
        debug_assert!(self.out.is_empty(), "replies before it are left");
        self.out = out;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        self.account()
            .count_as(spec, &words, Calls { took, ..call });
        self.lap_began = Instant::now();
        true
    }
}

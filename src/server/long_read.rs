//! A read that may take long, as KEYS and LCS may. It is carried out by a thread of its own, so that other
//! clients are served meanwhile (P3), also where one thread serves all of them.

use std::sync::Arc;

use super::session::Session;
use crate::command::{ReadFn, Spec};
use crate::protocol::Dialect;

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
    /// Carries it out, and answers and counts it. Says whether it was: a server that ends has no threads left.
    pub(super) async fn answer_long(&mut self, long: LongRead) -> bool {
        let engine = &self.shared.engine;
        let Some(reply) = engine.read_long(long.run, Arc::clone(&long.words)).await else {
            return false;
        };
        let words: Vec<&[u8]> = long.words.iter().map(Vec::as_slice).collect();
        self.answer_counted(long.spec, &words, reply, long.dialect);
        true
    }
}

//! SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE: all about the one kind of compaction there is.

use std::sync::Arc;

use super::{Answer, refuse};
use crate::command::{Reply, is_word, syntax};
use crate::engine::CompactionError;
use crate::protocol::ErrorReply;
use crate::server::session::Session;

const BUSY: &str = "ERR Background save already in progress";

impl Session {
    /// The time of the last snapshot. Before any, what is in the log has been since the start.
    pub(super) fn last_save(&self) -> Reply {
        Reply::Integer(i64::try_from(self.last_save_seconds()).unwrap_or(i64::MAX))
    }

    pub(super) fn last_save_seconds(&self) -> u64 {
        let last = self.shared.engine.compaction_status().last;
        // Of one that an earlier server wrote only the time of its last write is known, if it had any.
        let at = last.map(|last| last.at).filter(|at| at.0 > 0);
        at.unwrap_or(self.shared.console.started_at).0 / 1000
    }

    pub(super) fn background_save(&self, args: &[&[u8]]) -> Reply {
        match *args {
            [] => {}
            // A snapshot never has to wait for another kind of saving.
            [option] if is_word(option, "SCHEDULE") => {}
            [option] if is_word(option, "CANCEL") => {
                return if self.shared.engine.cancel_snapshot() {
                    Reply::Status("Background saving cancelled")
                } else {
                    refuse("ERR Background saving is currently not in progress or scheduled")
                };
            }
            _ => return Reply::Error(syntax("BGSAVE")),
        }
        self.begin_snapshot("Background saving started", BUSY)
    }

    pub(super) fn rewrite_log(&self) -> Reply {
        self.begin_snapshot(
            "Background append only file rewriting started",
            "ERR Background append only file rewriting already in progress",
        )
    }

    fn begin_snapshot(&self, begun: &'static str, busy: &'static str) -> Reply {
        match self.shared.engine.begin_snapshot() {
            Ok(()) => Reply::Status(begun),
            Err(CompactionError::Busy) => refuse(busy),
            Err(other) => failed(&other.to_string()),
        }
    }

    pub(super) fn save(&self) -> Answer {
        let engine = Arc::clone(&self.shared.engine);
        Answer::Later(Box::pin(async move {
            match engine.snapshot().await {
                Ok(()) => Reply::Ok,
                Err(CompactionError::Busy) => refuse(BUSY),
                Err(other) => failed(&other.to_string()),
            }
        }))
    }
}

fn failed(why: &str) -> Reply {
    Reply::Error(ErrorReply::Other(
        format!("ERR no snapshot was written: {why}").into(),
    ))
}

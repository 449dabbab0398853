//! Who takes part: each server, and how it is set.

use std::fmt;

/// A server and how it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// postres as it comes: each write synced before its reply.
    PostresAlways,
    /// postres that logs without syncing.
    PostresNever,
    /// Another build of postres as it comes.
    OtherBuild,
    /// The baseline: one fdatasync for each SET.
    Naive,
    /// A yardstick: sockets and a log, and nothing else.
    Bare,
    /// A yardstick for GETs: tasks, the decoder and the store, and little else.
    Plain,
    /// Valkey with a log, synced before the replies.
    ValkeyAlways,
    /// Valkey in memory only.
    ValkeyNoLog,
}

impl Contestant {
    /// Whether Valkey has to be there for it.
    pub(crate) fn is_valkey(self) -> bool {
        matches!(self, Self::ValkeyAlways | Self::ValkeyNoLog)
    }

    /// Whether it can be filled beforehand, and asked for more than keys.
    pub(crate) fn keeps_keys(self) -> bool {
        self != Self::Bare
    }

    /// Whether each of its SETs waits for a sync.
    pub(crate) fn syncs(self) -> bool {
        !matches!(self, Self::PostresNever | Self::Plain | Self::ValkeyNoLog)
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::PostresAlways => "postres, fsync always",
            Self::PostresNever => "postres, fsync never",
            Self::OtherBuild => "postres, the other build",
            Self::Naive => "naive, fdatasync per SET",
            Self::Bare => "bare, no store",
            Self::Plain => "plain, tasks and a store",
            Self::ValkeyAlways => "Valkey, appendfsync always",
            Self::ValkeyNoLog => "Valkey, no log",
        })
    }
}

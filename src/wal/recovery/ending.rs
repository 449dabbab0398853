//! How a log ends that holds no damage.

use std::fmt;
use std::path::PathBuf;

use super::Chain;
use crate::wal::Lsn;
use crate::wal::frame::FrameKind;

/// How a log ends that holds no damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The last operation; `None` if there is none.
    pub last: Option<Lsn>,
    /// What stands behind it.
    pub how: End,
}

/// What stands behind the last operation of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The mark of an orderly stop.
    Closed,
    /// Nothing.
    Open,
    /// The remnant of a write that a crash cut short.
    Torn {
        /// The segment.
        path: PathBuf,
        /// Where it begins.
        offset: u64,
    },
}

impl Ending {
    pub(super) fn of(chain: Option<&Chain>) -> Self {
        let Some(chain) = chain else {
            return Self {
                last: None,
                how: End::Open,
            };
        };
        let how = match chain.last_kind {
            _ if chain.torn.is_some() => End::Torn {
                path: chain.path.clone(),
                offset: chain.position,
            },
            Some(FrameKind::Close) => End::Closed,
            _ => End::Open,
        };
        Self {
            last: chain.next_lsn.0.checked_sub(1).filter(|n| *n > 0).map(Lsn),
            how,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last {
            Some(last) => write!(f, "the log ends with operation {last}")?,
            None => f.write_str("the log holds no operation")?,
        }
        match &self.how {
            End::Closed => f.write_str(", and the mark of an orderly stop"),
            End::Open => f.write_str(", without the mark of an orderly stop"),
            End::Torn { path, offset } => write!(
                f,
                "; a write that a crash cut short is behind it, in {} at offset {offset}, and the \
                 next start sets that aside",
                path.display()
            ),
        }
    }
}

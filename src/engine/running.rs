//! The parts of an engine that end: the log's thread and the applier.

use crate::wal::group_commit::LogThread;
use crate::wal::writer::AppendError;

/// The parts of a running engine that end: whoever started it waits for them.
#[derive(Debug, Default)]
pub struct Running {
    log: Option<LogThread>,
    applier: Option<tokio::task::JoinHandle<()>>,
}

impl Running {
    pub(super) fn new(log: LogThread, applier: tokio::task::JoinHandle<()>) -> Self {
        Self {
            log: Some(log),
            applier: Some(applier),
        }
    }

    /// Waits until log and applier have ended: after [`super::Engine::close`], or because the log failed,
    /// which is the error.
    pub async fn ended(&mut self) -> Result<(), EngineFailure> {
        if let Some(applier) = &mut self.applier {
            // It ends when the log's thread does, so the join below waits for little.
            let ended = applier.await;
            self.applier = None;
            ended.map_err(|_| EngineFailure::Applier)?;
        }
        match self.log.take().map(LogThread::join) {
            Some(Ok(Err(error))) => Err(EngineFailure::Log(error)),
            Some(Err(_)) => Err(EngineFailure::LogThread),
            Some(Ok(Ok(()))) | None => Ok(()),
        }
    }

    /// Whether there is a log that could fail.
    pub fn has_log(&self) -> bool {
        self.log.is_some()
    }
}

/// Why an engine ended although nobody closed it. None of them can be mended while it runs.
#[derive(Debug, thiserror::Error)]
pub enum EngineFailure {
    /// The disk.
    #[error(transparent)]
    Log(AppendError),
    /// The disk did not answer in the time that a stop may take.
    #[error("the log was not closed in time: its disk does not answer")]
    Stuck,
    /// A defect: the log's thread panicked.
    #[error("the log's thread panicked, which is a defect of postres")]
    LogThread,
    /// A defect: the applier panicked.
    #[error("the applier panicked, which is a defect of postres")]
    Applier,
}

//! A log at work on a simulated disk, and the record of what it may hold should it crash.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use postres::time::Timestamp;
use postres::wal::frame::push_operation;
use postres::wal::recovery;
use postres::wal::retire::Retired;
use postres::wal::snapshot::SnapshotError;
use postres::wal::writer::{AppendError, LogWriter};
use postres::wal::{LogFolder, LogOptions, Lsn};

use super::model::{Reading, State, operation};
use crate::disk::{Call, Disk};
use crate::support::log::options;

thread_local! {
    static SALT: Cell<u64> = const { Cell::new(0) };
}

/// What the log does next.
#[derive(Debug, Clone)]
pub enum Step {
    /// A frame with operations of these lengths.
    Append(Vec<usize>),
    /// A snapshot; the frames are appended while it is written.
    Snapshot(Vec<Vec<usize>>),
    /// What the last snapshot made superfluous goes; the frames are appended meanwhile.
    Retire(Vec<Vec<usize>>),
    /// An orderly stop, and a start.
    Restart,
    /// The process dies, and is started again.
    Kill,
}

/// What a crash may leave of the log now: what was acknowledged, and that with the frame in flight.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pub acknowledged: Arc<State>,
    pub in_flight: Option<Arc<State>>,
}

impl Ledger {
    pub fn allows(&self, state: &State) -> bool {
        *self.acknowledged == *state || self.in_flight.as_deref() == Some(state)
    }
}

/// The disk right before a call, and what it may hold.
#[derive(Debug)]
pub struct Moment {
    pub disk: Disk,
    pub ledger: Ledger,
    pub call: Call,
    pub path: PathBuf,
}

/// Keeps a [`Moment`] for every call.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    ledger: Arc<Mutex<Ledger>>,
    moments: Arc<Mutex<Vec<Moment>>>,
    /// Of the next operation: no two attempts have the same.
    number: Arc<AtomicU64>,
}

impl Recorder {
    /// `age` says how many crashes there were before.
    pub fn new(ledger: Ledger, age: u64) -> Self {
        Self {
            ledger: Arc::new(Mutex::new(ledger)),
            moments: Arc::default(),
            number: Arc::new(AtomicU64::new(age << 32)),
        }
    }

    fn number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    pub fn watch(&self, disk: &Disk) {
        let recorder = self.clone();
        disk.watch(move |call, path, disk| recorder.record(call, path, disk));
    }

    pub fn record(&self, call: Call, path: &Path, disk: Disk) {
        let ledger = self.ledger().clone();
        let path = path.to_path_buf();
        self.moments.lock().unwrap().push(Moment {
            disk,
            ledger,
            call,
            path,
        });
    }

    pub fn moments(&self) -> Vec<Moment> {
        std::mem::take(&mut self.moments.lock().unwrap())
    }
}

/// The same salts and times for every log that this thread opens from now on.
pub fn reset_salts() {
    SALT.set(0x5a17);
}

/// A clock that goes on by itself, and begins anew with every start of the log.
fn log_options() -> LogOptions {
    let ticks = AtomicU64::new(1_700_000_000_000);
    LogOptions {
        clock: Arc::new(move || Timestamp(ticks.fetch_add(3, Ordering::Relaxed))),
        entropy: || {
            SALT.set(SALT.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
            SALT.get()
        },
        ..options()
    }
}

/// Opens the log; an error says what is wrong with it, or with what it holds.
pub fn open(disk: &Disk, ledger: &Ledger) -> Result<(LogWriter, State), String> {
    let mut reading = Reading::default();
    let opened = recovery::open(Arc::new(disk.clone()), &log_options(), &mut reading);
    let (writer, _) = opened.map_err(|error| format!("it is refused: {error}"))?;
    if reading.discarded {
        return Err("a snapshot with its final name is damaged".to_owned());
    }
    let state = reading.state;
    if !ledger.allows(&state) {
        let allowed = &ledger.acknowledged.count;
        let flight = ledger.in_flight.as_ref().map(|state| state.count);
        let count = state.count;
        return Err(format!(
            "it holds {count} operations where {allowed} were acknowledged (with what was in flight: {flight:?}), or others than these"
        ));
    }
    Ok((writer, state))
}

/// What appends; shared with who appends in the midst of something else.
#[derive(Debug)]
struct Appender {
    writer: LogWriter,
    recorder: Recorder,
    time: Timestamp,
}

impl Appender {
    fn append(&mut self, lens: &[usize]) -> Result<(), AppendError> {
        let mut state = (*self.recorder.ledger().acknowledged).clone();
        let mut body = Vec::new();
        for len in lens {
            let operation = operation(self.recorder.number(), *len);
            push_operation(&mut body, |out| out.extend_from_slice(&operation));
            state.apply(&operation).unwrap();
        }
        let state = Arc::new(state);
        let unknown = self.recorder.ledger().in_flight.take();
        self.recorder.ledger().in_flight = Some(Arc::clone(&state));
        let appended = self.writer.append(lens.len() as u32, [body.as_slice()]);
        let mut ledger = self.recorder.ledger();
        match &appended {
            Ok(position) => {
                assert!(unknown.is_none(), "acknowledged before a cut-back was made");
                self.time = position.time;
                *ledger = Ledger {
                    acknowledged: state,
                    in_flight: None,
                };
            }
            // What may come back is the first that was refused like this: those behind it were
            // never written.
            Err(AppendError::Failed { .. } | AppendError::Uncertain { .. }) => {
                ledger.in_flight = Some(unknown.unwrap_or(state));
            }
            Err(_) => ledger.in_flight = None,
        }
        appended.map(drop)
    }
}

/// The log, open.
#[derive(Debug)]
pub struct Run {
    disk: Disk,
    recorder: Recorder,
    appender: Option<Arc<Mutex<Appender>>>,
    folder: LogFolder,
    /// Where the log goes on behind the last snapshot that was finished.
    snapshot: Option<Lsn>,
}

/// What went wrong with a step.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("appending: {0}")]
    Append(AppendError),
    #[error("the snapshot: {0}")]
    Snapshot(SnapshotError),
    #[error("retiring: {0}")]
    Retire(io::Error),
    #[error("opening: {0}")]
    Open(String),
}

impl Run {
    pub fn open(disk: &Disk, recorder: &Recorder) -> Result<Self, String> {
        let ledger = recorder.ledger().clone();
        let (writer, state) = open(disk, &ledger)?;
        *recorder.ledger() = Ledger {
            acknowledged: Arc::new(state),
            in_flight: None,
        };
        let folder = writer.folder();
        let appender = Appender {
            writer,
            recorder: recorder.clone(),
            time: Timestamp(1_700_000_000_000),
        };
        Ok(Self {
            disk: disk.clone(),
            recorder: recorder.clone(),
            appender: Some(Arc::new(Mutex::new(appender))),
            folder,
            snapshot: None,
        })
    }

    fn appender(&self) -> MutexGuard<'_, Appender> {
        self.appender.as_ref().unwrap().lock().unwrap()
    }

    pub fn is_open(&self) -> bool {
        self.appender.is_some()
    }

    /// The process is gone.
    pub fn close_files(&mut self) {
        self.appender = None;
    }

    pub fn failed_for_good(&self) -> bool {
        self.appender().writer.failure().is_some()
    }

    pub fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Append(lens) => self.appender().append(lens).map_err(Failure::Append),
            Step::Snapshot(between) => self.snapshot(between),
            Step::Retire(between) => self
                .retire(between.clone())
                .map(drop)
                .map_err(Failure::Retire),
            Step::Restart => {
                let closed = self.take_writer().close().map_err(Failure::Append);
                let opened = self.reopen();
                closed.and(opened)
            }
            Step::Kill => self.reopen(),
        }
    }

    fn take_writer(&mut self) -> LogWriter {
        let appender = self.appender.take().unwrap();
        let appender = Arc::into_inner(appender).unwrap();
        appender.into_inner().unwrap().writer
    }

    pub fn reopen(&mut self) -> Result<(), Failure> {
        self.appender = None;
        let snapshot = self.snapshot;
        *self = Self::open(&self.disk, &self.recorder).map_err(Failure::Open)?;
        self.snapshot = snapshot;
        Ok(())
    }

    /// What is in the snapshot is the state as it is now, whatever is appended meanwhile. Where
    /// appending fails, that is not the snapshot's matter.
    fn snapshot(&mut self, between: &[Vec<usize>]) -> Result<(), Failure> {
        let state = Arc::clone(&self.recorder.ledger().acknowledged);
        let next = Lsn(state.count + 1);
        let time = self.appender().time;
        let begun = self.folder.begin_snapshot(next, time, state.keys());
        let mut writer = begun.map_err(Failure::Snapshot)?;
        let mut between = between.iter();
        for record in state.records() {
            let pushed = writer.push(|out| out.extend_from_slice(&record));
            pushed.map_err(Failure::Snapshot)?;
            if let Some(lens) = between.next() {
                let _ = self.appender().append(lens);
            }
        }
        writer.finish().map_err(Failure::Snapshot)?;
        self.snapshot = Some(next);
        Ok(())
    }

    fn retire(&mut self, between: Vec<Vec<usize>>) -> io::Result<Retired> {
        let Some(next) = self.snapshot else {
            return Ok(Retired::default());
        };
        let appender = Arc::clone(self.appender.as_ref().unwrap());
        let (recorder, disk) = (self.recorder.clone(), self.disk.clone());
        let mut between = between.into_iter();
        if between.len() > 0 {
            self.disk.watch(move |call, path, image| {
                recorder.record(call, path, image);
                // Retiring holds what a change of segments waits for while it renames.
                if call != Call::Rename
                    && let Some(lens) = between.next()
                {
                    recorder.watch(&disk);
                    let _ = appender.lock().unwrap().append(&lens);
                    disk.unwatch();
                }
            });
        }
        let retired = self.folder.retire(next);
        self.recorder.watch(&self.disk);
        retired
    }
}

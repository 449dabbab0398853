//! Reading: every segment in turn, every frame in turn, and the verdict on what is no frame.

use std::path::Path;
use std::sync::mpsc;

use super::error::{RecoveryError, io_error};
use super::{Chain, Found, Progress, Replay, Report, Start};
use crate::time::Timestamp;
use crate::wal::Lsn;
use crate::wal::frame::{Frame, FrameCodec, FrameError, FrameKind};
use crate::wal::fs::{Fs, FsFile};
use crate::wal::name::LogName;
use crate::wal::page_buffer::PageBuffer;
use crate::wal::segment::{self, SegmentHeader, read_segment};

/// Reads a log's segments in order, and builds the [`Chain`] of those it accepts.
pub(super) struct Reader<'a> {
    fs: &'a dyn Fs,
    name: &'a LogName,
    replay: &'a mut dyn Replay,
    pub(super) start: Start,
    /// Operations before this one are not given to `replay`.
    pub(super) replay_from: Lsn,
    pub(super) chain: Option<Chain>,
    /// What was wrong at the end of the last segment, should another one follow.
    ended_with: Option<FrameError>,
    pub(super) report: Report,
    progress: Progress,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        fs: &'a dyn Fs,
        name: &'a LogName,
        replay: &'a mut dyn Replay,
        start: Start,
    ) -> Self {
        let progress = Progress {
            done: start.bytes,
            total: 0,
            operations: 0,
        };
        let report = Report {
            snapshot: start.path.clone(),
            last_snapshot: start.path.as_ref().map(|_| (start.next, start.time)),
            snapshot_bytes: start.bytes,
            records: start.records,
            repairs: start.repairs(name).collect(),
            ..Report::default()
        };
        Self {
            fs,
            name,
            replay,
            replay_from: start.next,
            start,
            chain: None,
            ended_with: None,
            report,
            progress,
        }
    }

    pub(super) fn read_all(&mut self, found: &Found) -> Result<(), RecoveryError> {
        let segments = found.files.segments.as_slice();
        // They are the first ones.
        let superfluous = self.start.superfluous.len();
        // The snapshot need not be the newest, whose length was counted on.
        let to_read = found.segment_lens.iter().skip(superfluous);
        let bytes = to_read.sum::<u64>();
        self.progress.total = self.progress.done + bytes;
        if let Some(last) = segments.last() {
            // The last segment's own are not counted: it may be almost empty.
            let operations = last.0.saturating_sub(self.start.next.0);
            self.replay.begin_log(operations, bytes);
        }
        self.read_segments(segments.get(superfluous..).unwrap_or_default())?;
        self.finish()
    }

    /// Reads these segments; a thread of its own is one ahead with what the disk gives.
    pub(super) fn read_segments(&mut self, bases: &[Lsn]) -> Result<(), RecoveryError> {
        let (fs, name) = (self.fs, self.name);
        std::thread::scope(|scope| {
            let (ready, segments) = mpsc::sync_channel(0);
            let (used, spare) = mpsc::channel();
            let read_ahead = move || {
                for &base in bases {
                    let path = name.segment(base);
                    let buffer = spare.try_recv().unwrap_or_default();
                    let read = read_segment(fs, &path, buffer);
                    // Nobody waits for more behind an error.
                    if ready.send((base, path, read)).is_err() {
                        break;
                    }
                }
            };
            std::thread::Builder::new()
                .name("postres-read".to_owned())
                .spawn_scoped(scope, read_ahead)
                .map_err(|source| io_error("starting a thread to read", name.dir(), source))?;
            for (base, path, read) in segments {
                let (file, bytes) = read.map_err(|source| io_error("reading", &path, source))?;
                self.read_one(base, &path, file, &bytes)?;
                // Its room is used again, if more is to be read.
                let _ = used.send(bytes);
            }
            Ok(())
        })
    }

    fn read_one(
        &mut self,
        base: Lsn,
        path: &Path,
        file: Box<dyn FsFile>,
        bytes: &[u8],
    ) -> Result<(), RecoveryError> {
        let header = SegmentHeader::decode(bytes).map_err(|cause| RecoveryError::Header {
            path: path.to_path_buf(),
            cause,
        })?;
        self.check_place(&header, base, path)?;
        if self.joins_chain(&header, bytes, path)? {
            self.read_frames(header, path, file, bytes)?;
        }
        self.replay.progress(self.progress);
        Ok(())
    }

    /// No segment is left to be read.
    pub(super) fn finish(&mut self) -> Result<(), RecoveryError> {
        match &self.chain {
            Some(chain) if chain.last_kind == Some(FrameKind::Seal) => {
                return Err(RecoveryError::MissingSegment {
                    path: self.name.segment(chain.next_lsn),
                });
            }
            _ => {}
        }
        let end = self.chain.as_ref().map(|chain| chain.next_lsn);
        // Without a segment, nothing follows the snapshot, not even the room for what would.
        let end = end.unwrap_or(if self.start.path.is_some() {
            Lsn(0)
        } else {
            Lsn::FIRST
        });
        self.start.check_end(self.name, end)?;
        self.replay
            .end()
            .map_err(|reason| RecoveryError::Impossible {
                path: self.name.bare(),
                offset: 0,
                reason,
            })
    }

    /// A header must say what the name says, and what the segments before say of the log.
    fn check_place(
        &self,
        header: &SegmentHeader,
        base: Lsn,
        path: &Path,
    ) -> Result<(), RecoveryError> {
        let other_log = self
            .chain
            .as_ref()
            .map(|chain| chain.header.log_id)
            .or(self.start.log_id)
            .is_some_and(|log_id| log_id != header.log_id);
        let says = match (header.base == base, other_log) {
            (true, false) => return Ok(()),
            (false, _) => format!("begins at operation {}", header.base),
            (true, true) => "belongs to another log".to_owned(),
        };
        Err(RecoveryError::Misplaced {
            path: path.to_path_buf(),
            says,
        })
    }

    /// Whether this segment continues the chain; if it does not, it is a leftover or an error.
    fn joins_chain(
        &mut self,
        header: &SegmentHeader,
        bytes: &[u8],
        path: &Path,
    ) -> Result<bool, RecoveryError> {
        let expected = self
            .chain
            .as_ref()
            .map_or(self.start.next, |chain| chain.next_lsn);
        if header.base > expected {
            // Where the segment before ends in bytes that are no frame, these are what is missing.
            if let (Some(chain), Some(source)) = (&self.chain, self.ended_with) {
                return Err(damaged(chain, source, path));
            }
            let to = Lsn(header.base.0 - 1);
            if let (None, Some((_, error))) = (&self.chain, self.start.broken.first()) {
                return Err(RecoveryError::BrokenSnapshot {
                    reason: error.to_string(),
                    missing: format!("no other file holds the operations {expected} to {to}"),
                });
            }
            return Err(RecoveryError::Gap {
                from: expected,
                to,
                path: path.to_path_buf(),
            });
        }
        let Some(chain) = &mut self.chain else {
            return Ok(true);
        };
        let sealed = chain.last_kind == Some(FrameKind::Seal);
        if sealed && header.base == expected {
            return Ok(true);
        }
        if last_nonzero(bytes, segment::HEADER_LEN).is_none() {
            chain.leftovers.push(header.base);
            return Ok(false);
        }
        match self.ended_with {
            Some(source) if header.base == expected => Err(damaged(chain, source, path)),
            _ => {
                let says = format!(
                    "begins at operation {}, which is in a file before it",
                    header.base
                );
                Err(RecoveryError::Misplaced {
                    path: path.to_path_buf(),
                    says,
                })
            }
        }
    }

    fn read_frames(
        &mut self,
        header: SegmentHeader,
        path: &Path,
        file: Box<dyn FsFile>,
        bytes: &[u8],
    ) -> Result<(), RecoveryError> {
        /// Progress is told this often within a segment.
        const TELL_EVERY: u64 = 4 << 20;
        let previous = self.chain.take();
        let leftovers = previous
            .as_ref()
            .map(|chain| chain.leftovers.clone())
            .unwrap_or_default();
        let mut chain = Chain {
            header,
            path: path.to_path_buf(),
            file,
            len: bytes.len() as u64,
            position: segment::HEADER_LEN,
            next_lsn: header.base,
            time: previous
                .as_ref()
                .map_or(Timestamp::default(), |chain| chain.time),
            last_kind: None,
            unproven: (segment::HEADER_LEN, Vec::new()),
            before: None,
            torn: None,
            leftovers,
        };
        let codec = header.codec();
        let (done_before, mut told) = (self.progress.done, 0);
        self.ended_with = loop {
            if chain.last_kind == Some(FrameKind::Seal) {
                break None;
            }
            let frame = match codec.open(tail(bytes, chain.position)) {
                Ok(frame) => frame,
                Err(error) => break Some(error),
            };
            self.replay_frame(&chain, &frame)?;
            chain.position += frame.header.frame_len() as u64;
            chain.next_lsn = frame.header.next_lsn();
            chain.time = frame.header.time;
            chain.last_kind = Some(frame.header.kind);
            chain.unproven.0 = chain.unproven.0.max(frame.header.synced);
            self.progress.done = done_before + chain.position;
            if chain.position - told > TELL_EVERY {
                told = chain.position;
                self.replay.progress(self.progress);
            }
        };
        let (from, unproven) = (chain.unproven.0, &mut chain.unproven.1);
        let len = chain.position.saturating_sub(from);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        unproven.extend(tail(bytes, from).iter().take(len));
        if chain.last_kind.is_none() {
            chain.before = previous.map(Box::new);
        }
        if let Some(error) = self.ended_with {
            chain.torn = judge_tail(&chain, bytes, codec, error)?;
        }
        self.progress.done = done_before + chain.len;
        self.report.segments += 1;
        self.chain = Some(chain);
        Ok(())
    }

    fn replay_frame(&mut self, chain: &Chain, frame: &Frame<'_>) -> Result<(), RecoveryError> {
        let header = frame.header;
        if header.lsn != chain.next_lsn {
            let reason = format!(
                "operation {} where {} should be",
                header.lsn, chain.next_lsn
            );
            return Err(impossible(chain, reason));
        }
        if header.time < chain.time {
            return Err(impossible(
                chain,
                "a time before the previous frame's".to_owned(),
            ));
        }
        let (from, next) = (self.replay_from, self.start.next);
        let operations = (header.lsn.0..).map(Lsn).zip(frame.operations());
        for (lsn, operation) in operations.skip_while(|(lsn, _)| *lsn < from) {
            self.report.operations += 1;
            self.replay
                .operation(lsn, header.time, operation)
                .map_err(|reason| impossible(chain, format!("operation {lsn}: {reason}")))?;
        }
        if header.next_lsn() > next {
            self.report.log_bytes += header.frame_len() as u64;
        }
        self.progress.operations = self.report.operations;
        Ok(())
    }
}

/// Tells a torn tail (its bytes, up to the last that is not zero) from a clean end (`None`) and
/// from damage.
fn judge_tail(
    chain: &Chain,
    bytes: &[u8],
    codec: FrameCodec,
    error: FrameError,
) -> Result<Option<Vec<u8>>, RecoveryError> {
    if error == FrameError::Malformed {
        return Err(impossible(chain, error.to_string()));
    }
    let Some(end) = last_nonzero(bytes, chain.position) else {
        return Ok(None);
    };
    let witness = codec.witness(bytes, chain.position, chain.next_lsn, chain.time);
    if let Some(at) = witness {
        return Err(RecoveryError::Damaged {
            path: chain.path.clone(),
            offset: chain.position,
            lsn: chain.next_lsn,
            cause: error,
            witness: format!("the frame at offset {at}"),
        });
    }
    let torn = tail(bytes, chain.position);
    let len = usize::try_from(end - chain.position).unwrap_or(torn.len());
    Ok(Some(torn.get(..len).unwrap_or(torn).to_vec()))
}

/// Whether the segment at `base` holds only zeros behind its header.
pub(super) fn is_empty(
    fs: &dyn Fs,
    name: &LogName,
    base: Option<&Lsn>,
) -> Result<bool, RecoveryError> {
    let path = name.segment(base.copied().unwrap_or(Lsn::FIRST));
    let (_, bytes) = read_segment(fs, &path, PageBuffer::default())
        .map_err(|source| io_error("reading", &path, source))?;
    Ok(last_nonzero(&bytes, segment::HEADER_LEN).is_none())
}

fn tail(bytes: &[u8], from: u64) -> &[u8] {
    usize::try_from(from)
        .ok()
        .and_then(|from| bytes.get(from..))
        .unwrap_or_default()
}

/// The offset behind the last byte at or after `from` that is not zero.
fn last_nonzero(bytes: &[u8], from: u64) -> Option<u64> {
    let at = tail(bytes, from).iter().rposition(|&byte| byte != 0)?;
    Some(from + at as u64 + 1)
}

fn impossible(chain: &Chain, reason: String) -> RecoveryError {
    RecoveryError::Impossible {
        path: chain.path.clone(),
        offset: chain.position,
        reason,
    }
}

fn damaged(chain: &Chain, source: FrameError, witness: &Path) -> RecoveryError {
    RecoveryError::Damaged {
        path: chain.path.clone(),
        offset: chain.position,
        lsn: chain.next_lsn,
        cause: source,
        witness: format!("the next segment, {},", witness.display()),
    }
}

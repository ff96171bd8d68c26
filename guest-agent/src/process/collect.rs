//! Running a command to its end and keeping the beginning of what it writes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use firstlight_protocol::message::batch::{Captured, Output};
use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::exec::{ExecOutcome, ExecRequest};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::supervise::SIGTERM;
use super::{OutputPipe, Process, Processes};

/// Bytes read from a pipe in one go. Many commands are collected at one time, so less than the streams of an exec have.
const BUFFER: usize = 8 * 1024;

/// Between the SIGTERM of a command that is out of time and its SIGKILL. Nobody waits for that.
const KILL_AFTER: Duration = Duration::from_secs(1);

/// Bytes that several commands may keep together.
#[derive(Debug)]
pub struct Allowance(AtomicUsize);

impl Allowance {
    /// An allowance of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Allowance {
        Allowance(AtomicUsize::new(bytes))
    }

    /// Takes `wanted` bytes, or what is left; gives how many that is.
    pub fn take(&self, wanted: usize) -> usize {
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(wanted)));
        wanted.min(before.unwrap_or_else(|left| left))
    }

    /// Takes `wanted` bytes or nothing, and says which.
    pub fn take_all(&self, wanted: usize) -> bool {
        let checked = |left: usize| left.checked_sub(wanted);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, checked).is_ok()
    }
}

/// How much may be kept of each stream.
#[derive(Debug, Clone, Copy)]
pub struct Limit<'a> {
    /// Of each stream.
    pub stream: usize,
    /// Of this command and others together.
    pub allowance: &'a Allowance,
}

impl Processes {
    /// Runs a command until it ends or `deadline` has come, whichever is first. A command that is out of time gets SIGTERM,
    /// then SIGKILL, and has no outcome if it did not end at once. Background children delay nothing.
    ///
    /// # Errors
    /// As [`Processes::start`].
    pub async fn collect(
        &self,
        request: ExecRequest,
        deadline: Instant,
        limit: Limit<'_>,
    ) -> Result<(Option<ExecOutcome>, Output), AgentError> {
        let time = deadline.saturating_duration_since(Instant::now());
        let request = ExecRequest {
            timeout_ms: Some(millis(time)),
            kill_after_ms: millis(KILL_AFTER),
            stdin: false,
            ..request
        };
        let mut output = Output::default();
        let Ok(started) = timeout_at(deadline, self.start(&request, None)).await else {
            return Ok((None, output));
        };
        let Process { stdout, stderr, group, mut outcome, .. } = started?;
        let ended = timeout_at(deadline, async {
            tokio::join!(capture(&stdout, outcome.clone(), limit, &mut output.stdout), async {
                if let Some(stderr) = &stderr {
                    capture(stderr, outcome.clone(), limit, &mut output.stderr).await;
                }
            },);
            outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone())
        });
        let ended = ended.await.ok().flatten();
        if ended.is_none() {
            // The supervisor counts from the start of the command, which was later.
            group.signal(SIGTERM);
        }
        self.discard(stdout);
        if let Some(stderr) = stderr {
            self.discard(stderr);
        }
        Ok((ended, output))
    }
}

/// Reads until the stream ends, or until the command has ended and what was in the pipe then is read.
async fn capture(
    pipe: &OutputPipe,
    mut outcome: watch::Receiver<Option<ExecOutcome>>,
    limit: Limit<'_>,
    captured: &mut Captured,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = tokio::select! {
            // The end comes first: a background child that never stops writing would keep it from being seen.
            biased;
            _ = outcome.wait_for(Option::is_some) => break,
            read = pipe.read(&mut buffer) => read,
        };
        let Some(count) = read.ok().filter(|count| *count > 0) else { return };
        limit.keep(captured, &buffer[..count]);
    }
    let mut left = pipe.buffered().unwrap_or(0);
    while left > 0 {
        let read = pipe.read(&mut buffer[..left.min(BUFFER)]).await;
        let Some(count) = read.ok().filter(|count| *count > 0) else { return };
        left -= count;
        limit.keep(captured, &buffer[..count]);
    }
}

impl Limit<'_> {
    /// Keeps what there is room for. Once something was left out nothing is kept any more: a stream's beginning has no
    /// holes.
    fn keep(self, captured: &mut Captured, bytes: &[u8]) {
        let room = if captured.omitted > 0 { 0 } else { self.stream.saturating_sub(captured.bytes.len()) };
        let kept = self.allowance.take(room.min(bytes.len()));
        captured.bytes.extend_from_slice(&bytes[..kept]);
        captured.omitted += (bytes.len() - kept) as u64;
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_spent_once() {
        let allowance = Allowance::new(10);
        assert_eq!(allowance.take(4), 4);
        assert!(!allowance.take_all(7));
        assert!(allowance.take_all(5));
        assert_eq!((allowance.take(4), allowance.take(4)), (1, 0));
    }

    #[test]
    fn a_stream_s_beginning_has_no_holes() {
        let allowance = Allowance::new(100);
        let limit = Limit { stream: 4, allowance: &allowance };
        let mut captured = Captured::default();
        for bytes in [&b"abc"[..], b"defg", b"h"] {
            limit.keep(&mut captured, bytes);
        }
        assert_eq!(captured, Captured { bytes: b"abcd".to_vec(), omitted: 4 });
        assert_eq!(allowance.take(1000), 96);
    }
}

//! The program's output, across the agent's death.

use std::io::{PipeWriter, Write};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::Cause;
use firstlight_protocol::message::output::{
    OutputAck, OutputChunk, OutputEnd, OutputRequest, Position, Stream,
};

use super::common::{Agent, Client, ProgramPipes};

const MIB: u64 = 1 << 20;

/// The byte that a stream has at a position, so that any byte out of place shows.
fn byte_at(position: u64) -> u8 {
    let mixed = position.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_be_bytes()[0]
}

fn pattern(from: u64, to: u64) -> Vec<u8> {
    (from..to).map(byte_at).collect()
}

/// A program that writes `total` bytes of the pattern and ends. Nobody joins it: when a test fails it may wait forever.
fn program(pipe: PipeWriter, total: u64) {
    std::thread::spawn(move || write_pattern(pipe, total));
}

/// The same, but never further ahead of what its monitor has than an agent keeps while there is no monitor. It wants to
/// be told where the monitor is.
fn program_in_reach(mut pipe: PipeWriter, total: u64) -> Sender<u64> {
    let (sender, reached) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bound = MIB;
        for from in (0..total).step_by(10_007) {
            let to = (from + 10_007).min(total);
            while to > bound {
                let Ok(position) = reached.recv() else { return };
                bound = position + MIB;
            }
            pipe.write_all(&pattern(from, to)).unwrap();
        }
    });
    sender
}

/// Writes `total` bytes of the pattern, waiting as a program does, and closes the pipe.
fn write_pattern(mut pipe: PipeWriter, total: u64) {
    for from in (0..total).step_by(10_007) {
        pipe.write_all(&pattern(from, (from + 10_007).min(total))).unwrap();
    }
}

/// A monitor: reads the output and remembers where it is.
struct Monitor {
    client: Client,
    written: Position,
    acknowledged: Position,
    /// Bytes of standard output that were dropped before they were read.
    gaps: u64,
}

/// What a monitor met.
enum Met {
    Chunk,
    End,
    Broken,
}

impl Monitor {
    fn follow(agent: &Agent, from: Position) -> Monitor {
        let mut client = agent.connect();
        client.send(Kind::OutputRequest, 3, &codec::encode(&OutputRequest { from }).unwrap());
        Monitor { client, written: from, acknowledged: from, gaps: 0 }
    }

    /// Reads one frame, and checks every byte of it.
    #[track_caller]
    fn read(&mut self) -> Met {
        let Some(frame) = self.client.receive() else { return Met::Broken };
        if frame.kind == Kind::OutputEnd {
            let OutputEnd { end } = codec::decode(&frame.payload).unwrap();
            assert_eq!(end, self.written);
            return Met::End;
        }
        assert_eq!(frame.kind, Kind::OutputChunk);
        let OutputChunk { stream, sequence, bytes } = codec::decode(&frame.payload).unwrap();
        let end = sequence + bytes.len() as u64;
        assert!(bytes == pattern(sequence, end), "other bytes at {sequence}");
        let written = match stream {
            Stream::Stdout => &mut self.written.stdout,
            Stream::Stderr => &mut self.written.stderr,
        };
        assert!(sequence >= *written, "{sequence} comes again after {written}");
        self.gaps += sequence - *written;
        *written = end;
        Met::Chunk
    }

    fn acknowledge(&mut self) {
        if self.acknowledged == self.written {
            return;
        }
        self.acknowledged = self.written;
        let acknowledgement = codec::encode(&OutputAck { written: self.written }).unwrap();
        self.client.send(Kind::OutputAck, 3, &acknowledgement);
    }

    /// Reads and acknowledges to the end.
    #[track_caller]
    fn read_to_end(&mut self) {
        loop {
            match self.read() {
                Met::Chunk => self.acknowledge(),
                Met::End => return self.acknowledge(),
                Met::Broken => panic!("the connection broke"),
            }
        }
    }
}

#[test]
fn both_streams_arrive_apart_and_end() {
    let (pipes, mut stdout, mut stderr) = ProgramPipes::new();
    let agent = Agent::start_with(Some(&pipes));
    let mut monitor = Monitor::follow(&agent, Position::default());
    stdout.write_all(&pattern(0, 5)).unwrap();
    assert!(matches!(monitor.read(), Met::Chunk));
    assert_eq!(monitor.written, Position { stdout: 5, stderr: 0 });
    stderr.write_all(&pattern(0, 3)).unwrap();
    assert!(matches!(monitor.read(), Met::Chunk));
    drop((stdout, stderr));
    assert!(matches!(monitor.read(), Met::End));
    monitor.acknowledge();
    // After the last acknowledgement the connection is free again.
    monitor.client.ping();
}

#[test]
fn a_reading_monitor_loses_nothing_of_a_fast_program() {
    let (pipes, stdout, stderr) = ProgramPipes::new();
    let agent = Agent::start_with(Some(&pipes));
    let mut monitor = Monitor::follow(&agent, Position::default());
    program(stdout, 20 * MIB);
    program(stderr, 3 * MIB);
    monitor.read_to_end();
    assert_eq!(monitor.written, Position { stdout: 20 * MIB, stderr: 3 * MIB });
    assert_eq!(monitor.gaps, 0);
}

#[test]
fn an_agent_killed_again_and_again_loses_no_byte() {
    let (pipes, stdout, stderr) = ProgramPipes::new();
    drop(stderr);
    let total = 12 * MIB;
    let at = program_in_reach(stdout, total);
    let mut written = Position::default();
    for round in 0..40_usize {
        let agent = Agent::start_with(Some(&pipes));
        let mut monitor = Monitor::follow(&agent, written);
        // A different place in the stream, and another pace of acknowledgements, in each round.
        for read in 0..round % 7 {
            assert!(matches!(monitor.read(), Met::Chunk));
            if read % 2 == 0 {
                monitor.acknowledge();
            }
        }
        agent.kill();
        while let Met::Chunk = monitor.read() {}
        assert_eq!(monitor.gaps, 0);
        written = monitor.written;
        let _ = at.send(written.stdout);
    }
    let agent = Agent::start_with(Some(&pipes));
    let mut monitor = Monitor::follow(&agent, written);
    while let Met::Chunk = monitor.read() {
        monitor.acknowledge();
        // Nobody hears it once all is written.
        let _ = at.send(monitor.written.stdout);
    }
    monitor.acknowledge();
    assert_eq!((monitor.written.stdout, monitor.gaps), (total, 0));
}

#[test]
fn a_monitor_killed_and_replaced_loses_no_byte() {
    let (pipes, stdout, stderr) = ProgramPipes::new();
    drop(stderr);
    let agent = Agent::start_with(Some(&pipes));
    program(stdout, MIB);
    let mut written = Position::default();
    for _ in 0..10 {
        let mut monitor = Monitor::follow(&agent, written);
        assert!(matches!(monitor.read(), Met::Chunk));
        written = monitor.written;
    }
    let mut monitor = Monitor::follow(&agent, written);
    monitor.read_to_end();
    assert_eq!((monitor.written.stdout, monitor.gaps), (MIB, 0));
}

#[test]
fn without_a_monitor_the_program_runs_on_and_the_gap_shows() {
    let (pipes, stdout, stderr) = ProgramPipes::new();
    drop(stderr);
    let agent = Agent::start_with(Some(&pipes));
    write_pattern(stdout, 10 * MIB);
    let mut monitor = Monitor::follow(&agent, Position::default());
    monitor.read_to_end();
    assert_eq!(monitor.written.stdout, 10 * MIB);
    // The last bytes may still have been in the pipe when the monitor came, and are kept for it then.
    let kept = 10 * MIB - monitor.gaps;
    assert!((MIB..=MIB + 64 * 1024).contains(&kept), "{kept} bytes kept");
    assert!(pipes.memory() <= MIB + 256 * 1024, "{} bytes of memory", pipes.memory());
}

#[test]
fn a_monitor_that_stands_still_counts_as_absent() {
    let (pipes, stdout, stderr) = ProgramPipes::new();
    drop(stderr);
    let agent = Agent::start_with(Some(&pipes));
    let mut monitor = Monitor::follow(&agent, Position::default());
    let begun = Instant::now();
    write_pattern(stdout, 4 * MIB);
    assert!(begun.elapsed() > Duration::from_secs(4), "the program did not wait for its monitor");
    monitor.read_to_end();
    assert_eq!(monitor.written.stdout, 4 * MIB);
    assert!(monitor.gaps > 0);
}

#[test]
fn a_second_monitor_takes_the_first_one_s_place() {
    let (pipes, mut stdout, _stderr) = ProgramPipes::new();
    let agent = Agent::start_with(Some(&pipes));
    let mut first = Monitor::follow(&agent, Position::default());
    stdout.write_all(&pattern(0, 10)).unwrap();
    assert!(matches!(first.read(), Met::Chunk));
    let mut second = Monitor::follow(&agent, Position { stdout: 4, stderr: 0 });
    assert!(matches!(second.read(), Met::Chunk));
    assert_eq!(second.written.stdout, 10);
    assert!(matches!(first.client.expect_error(3).cause, Cause::Busy(_)));
}

#[test]
fn positions_the_program_never_reached_are_refused() {
    let (pipes, _stdout, _stderr) = ProgramPipes::new();
    let agent = Agent::start_with(Some(&pipes));
    let mut monitor = Monitor::follow(&agent, Position { stdout: 1, stderr: 0 });
    assert!(matches!(monitor.client.expect_error(3).cause, Cause::Invalid(_)));
    let mut monitor = Monitor::follow(&agent, Position::default());
    monitor.written.stderr = 1;
    monitor.acknowledge();
    assert!(matches!(monitor.client.expect_error(0).cause, Cause::Protocol(_)));
    monitor.client.expect_end();
}

#[test]
fn on_sigterm_the_last_words_are_delivered_first() {
    let (pipes, stdout, stderr) = ProgramPipes::new();
    let mut agent = Agent::start_with(Some(&pipes));
    let mut monitor = Monitor::follow(&agent, Position::default());
    agent.terminate();
    program(stdout, 3 * MIB);
    drop(stderr);
    monitor.read_to_end();
    assert_eq!((monitor.written.stdout, monitor.gaps), (3 * MIB, 0));
    assert!(agent.wait().success());
}

#[test]
fn on_sigterm_a_monitor_that_comes_back_is_waited_for() {
    let (pipes, mut stdout, stderr) = ProgramPipes::new();
    let mut agent = Agent::start_with(Some(&pipes));
    stdout.write_all(&pattern(0, 100)).unwrap();
    agent.terminate();
    drop((stdout, stderr));
    let mut monitor = Monitor::follow(&agent, Position::default());
    monitor.read_to_end();
    assert_eq!(monitor.written.stdout, 100);
    assert!(agent.wait().success());
}

#[test]
fn on_sigterm_nobody_is_waited_for_in_vain() {
    let mut without_program = Agent::start();
    without_program.terminate();
    assert!(without_program.wait().success());

    let (pipes, mut stdout, stderr) = ProgramPipes::new();
    let mut agent = Agent::start_with(Some(&pipes));
    stdout.write_all(b"nobody reads this").unwrap();
    drop((stdout, stderr));
    agent.terminate();
    assert!(agent.wait().success());
}

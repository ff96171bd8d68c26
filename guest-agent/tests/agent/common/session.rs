//! A host's side of a session.

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::exec::{ExecOutcome, ExecRequest, MAX_CHUNK};
use firstlight_protocol::message::output::Stream;
use firstlight_protocol::message::session::{
    INPUT_WINDOW, Session, SessionAck, SessionAttachRequest, SessionAttached, SessionChunk, SessionEnd,
    SessionInputTaken, SessionKey, SessionResizeRequest, SessionSignalRequest, SessionStartRequest,
    SessionStarted, SessionWaitRequest, Sessions, Window,
};

use super::client::Client;

/// A command that ran, or did not.
#[derive(Debug)]
pub struct Ended {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub outcome: ExecOutcome,
}

impl Ended {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// A request with nothing but arguments.
pub fn command(argv: &[&str]) -> ExecRequest {
    ExecRequest {
        argv: argv.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
        env: Vec::new(),
        cwd: None,
        user: None,
        stdin: false,
        timeout_ms: None,
        kill_after_ms: 10_000,
    }
}

/// A shell script as a request.
pub fn script(text: &str) -> ExecRequest {
    command(&["/bin/sh", "-c", text])
}

/// What a session tells its reader.
#[derive(Debug)]
pub enum Told {
    Chunk(SessionChunk),
    Taken(u64),
    End(SessionEnd),
}

impl Client {
    pub fn begin(&mut self, id: u64, request: &ExecRequest) {
        self.begin_session(
            id,
            &SessionStartRequest { command: request.clone(), terminal: None, detached: false },
        );
    }

    pub fn begin_session(&mut self, id: u64, request: &SessionStartRequest) {
        self.send(Kind::SessionStartRequest, id, &codec::encode(request).unwrap());
    }

    /// Waits until the command runs; gives its process id.
    #[track_caller]
    pub fn started(&mut self, id: u64) -> u32 {
        self.session_started(id).pid
    }

    #[track_caller]
    pub fn session_started(&mut self, id: u64) -> SessionStarted {
        codec::decode(&self.expect(Kind::SessionStarted, id)).unwrap()
    }

    /// Starts a session that nobody reads.
    #[track_caller]
    pub fn start_detached(&mut self, command: &ExecRequest) -> SessionKey {
        let request = SessionStartRequest { command: command.clone(), terminal: None, detached: true };
        self.begin_session(8, &request);
        self.session_started(8).key
    }

    /// Starts a session on a terminal.
    #[track_caller]
    pub fn start_on_terminal(
        &mut self,
        id: u64,
        command: &ExecRequest,
        rows: u16,
        columns: u16,
    ) -> SessionKey {
        let terminal = Some(Window { rows, columns });
        self.begin_session(id, &SessionStartRequest { command: command.clone(), terminal, detached: false });
        self.session_started(id).key
    }

    #[track_caller]
    pub fn attach(&mut self, id: u64, session: u64, from: Option<u64>, take_over: bool) -> SessionAttached {
        let request = SessionAttachRequest { id: session, from, take_over };
        self.send(Kind::SessionAttachRequest, id, &codec::encode(&request).unwrap());
        codec::decode(&self.expect(Kind::SessionAttached, id)).unwrap()
    }

    /// The next thing the session tells.
    #[track_caller]
    pub fn told(&mut self, id: u64) -> Told {
        let frame = self.receive().expect("connection ended before the session");
        assert_eq!(frame.id, id);
        if frame.kind == Kind::SessionChunk {
            Told::Chunk(codec::decode(&frame.payload).unwrap())
        } else if frame.kind == Kind::SessionInputTaken {
            Told::Taken(codec::decode::<SessionInputTaken>(&frame.payload).unwrap().bytes)
        } else {
            assert_eq!(frame.kind, Kind::SessionEnd, "{:?}", self.error_in(&frame));
            Told::End(codec::decode(&frame.payload).unwrap())
        }
    }

    /// The next output; the input that was taken meanwhile is of no interest.
    #[track_caller]
    pub fn chunk(&mut self, id: u64) -> SessionChunk {
        loop {
            match self.told(id) {
                Told::Chunk(chunk) => return chunk,
                Told::Taken(_) => {}
                Told::End(end) => panic!("{end:?}"),
            }
        }
    }

    pub fn acknowledge(&mut self, id: u64, through: u64, end: bool) {
        self.send(Kind::SessionAck, id, &codec::encode(&SessionAck { through, end }).unwrap());
    }

    /// Collects the rest of a session, acknowledging all of it.
    #[track_caller]
    pub fn finish(&mut self, id: u64) -> Ended {
        self.finish_with_input(id, &[])
    }

    /// Sends input within its window while it collects the rest of a session. Without any the input stays as it is.
    #[track_caller]
    pub fn finish_with_input(&mut self, id: u64, input: &[u8]) -> Ended {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (mut sent, mut taken, mut is_ended) = (0, 0, input.is_empty());
        let window = usize::try_from(INPUT_WINDOW).unwrap();
        loop {
            while sent < input.len() && sent - taken < window {
                let next = (sent + MAX_CHUNK).min(input.len());
                self.send(Kind::Stdin, id, &input[sent..next]);
                sent = next;
            }
            if !is_ended && sent == input.len() {
                self.send(Kind::StdinEnd, id, &[]);
                is_ended = true;
            }
            match self.told(id) {
                Told::Taken(bytes) => taken = usize::try_from(bytes).unwrap(),
                Told::Chunk(SessionChunk { stream, sequence, bytes }) => {
                    let through = sequence + bytes.len() as u64;
                    match stream {
                        Stream::Stdout => stdout.extend(bytes),
                        Stream::Stderr => stderr.extend(bytes),
                    }
                    self.acknowledge(id, through, false);
                }
                Told::End(SessionEnd { sequence, outcome }) => {
                    let has_started = !matches!(outcome, ExecOutcome::SpawnFailed(_));
                    if has_started {
                        self.acknowledge(id, sequence, true);
                    }
                    return Ended { stdout, stderr, outcome };
                }
            }
        }
    }

    #[track_caller]
    pub fn exec(&mut self, request: &ExecRequest) -> Ended {
        self.begin(9, request);
        let frame = self.receive().expect("connection ended before the command");
        if frame.kind == Kind::SessionEnd {
            let SessionEnd { outcome, .. } = codec::decode(&frame.payload).unwrap();
            return Ended { stdout: Vec::new(), stderr: Vec::new(), outcome };
        }
        assert_eq!(frame.kind, Kind::SessionStarted);
        self.finish(9)
    }

    #[track_caller]
    pub fn sh(&mut self, text: &str) -> Ended {
        self.exec(&script(text))
    }

    /// Reads output until it ends in `end`; gives it as text.
    #[track_caller]
    pub fn read_until(&mut self, id: u64, end: &str) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let SessionChunk { sequence, bytes, .. } = self.chunk(id);
            self.acknowledge(id, sequence + bytes.len() as u64, false);
            text.extend(bytes);
        }
        String::from_utf8(text).unwrap()
    }

    /// The first line a command writes, when it writes no more than that for now.
    #[track_caller]
    pub fn first_line(&mut self, id: u64) -> String {
        self.read_until(id, "\n").trim_end().to_owned()
    }

    #[track_caller]
    pub fn signal(&mut self, session: u64, number: i32) {
        let number = u8::try_from(number).unwrap();
        let request = SessionSignalRequest { id: session, number };
        self.send(Kind::SessionSignalRequest, 7, &codec::encode(&request).unwrap());
        self.expect(Kind::SessionDone, 7);
    }

    #[track_caller]
    pub fn resize(&mut self, session: u64, rows: u16, columns: u16) {
        let request = SessionResizeRequest { id: session, window: Window { rows, columns } };
        self.send(Kind::SessionResizeRequest, 7, &codec::encode(&request).unwrap());
        self.expect(Kind::SessionDone, 7);
    }

    #[track_caller]
    pub fn sessions(&mut self) -> Vec<Session> {
        self.send(Kind::SessionsRequest, 7, &[]);
        codec::decode::<Sessions>(&self.expect(Kind::Sessions, 7)).unwrap().sessions
    }

    #[track_caller]
    pub fn wait_session(&mut self, session: u64) -> SessionEnd {
        let request = SessionWaitRequest { id: session };
        self.send(Kind::SessionWaitRequest, 7, &codec::encode(&request).unwrap());
        codec::decode(&self.expect(Kind::SessionEnd, 7)).unwrap()
    }
}

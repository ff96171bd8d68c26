//! One run of a check.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use firstlight_protocol::message::batch::Output;
use firstlight_protocol::message::exec::{ExecOutcome, ExecRequest};
use firstlight_protocol::message::health::{Finding, MAX_DETAIL, Probe};
use firstlight_protocol::sentinel::ExitStatus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::clock;
use crate::process::{Allowance, Limit, Processes};

/// Bytes kept of each stream of a command. Its first line is what people want to see.
const MAX_OUTPUT: usize = MAX_DETAIL;

/// Bytes of an HTTP answer looked at: its status line and a little more.
const MAX_STATUS_LINE: usize = 256;

/// Runs a check once.
pub(super) async fn run(processes: &Processes, probe: &Probe, limit: Duration) -> Finding {
    let started = Instant::now();
    let deadline = started + limit;
    let found = match probe {
        Probe::Exec(argv) => exec(processes, argv, deadline).await,
        Probe::Tcp(port) => tcp(*port, deadline).await,
        Probe::Http { port, path } => http(*port, path, deadline).await,
    };
    let timed_out = || Err(format!("timed out after {} ms", limit.as_millis()));
    let (ok, detail) = match found.unwrap_or_else(timed_out) {
        Ok(detail) => (true, detail),
        Err(detail) => (false, detail),
    };
    Finding {
        ok,
        // A clock that cannot be read is the least of a guest's troubles.
        at_ns: clock::boottime_ns().unwrap_or(0),
        elapsed_us: clock::microseconds(started.elapsed()),
        detail: shortened(&detail),
    }
}

/// What a run says of a success or a failure; `None` when its time was up.
type Found = Option<Result<String, String>>;

async fn exec(processes: &Processes, argv: &[Vec<u8>], deadline: Instant) -> Found {
    let request = ExecRequest {
        argv: argv.to_vec(),
        env: Vec::new(),
        cwd: None,
        user: None,
        stdin: false,
        timeout_ms: None,
        kill_after_ms: 0,
    };
    let allowance = Allowance::new(2 * MAX_OUTPUT);
    let limit = Limit { stream: MAX_OUTPUT, allowance: &allowance };
    let (ended, output) = match processes.collect(request, deadline, limit).await {
        Ok(collected) => collected,
        Err(error) => return Some(Err(error.to_string())),
    };
    let status = match ended? {
        ExecOutcome::Exited(status) => status,
        ExecOutcome::OutOfMemory(_) => return Some(Err("ended by the OOM killer".into())),
        ExecOutcome::SpawnFailed(error) => return Some(Err(error.to_string())),
        ExecOutcome::TimedOut(_) => return None,
    };
    let said = first_line(&output);
    let end = match status {
        ExitStatus::Code(0) => return Some(Ok(said)),
        ExitStatus::Code(code) => format!("exit code {code}"),
        ExitStatus::Signal(signal) => format!("ended by signal {signal}"),
    };
    Some(Err(if said.is_empty() { end } else { format!("{end}: {said}") }))
}

fn first_line(output: &Output) -> String {
    let stream = if output.stdout.bytes.is_empty() { &output.stderr } else { &output.stdout };
    String::from_utf8_lossy(&stream.bytes).lines().next().unwrap_or_default().to_owned()
}

async fn tcp(port: u16, deadline: Instant) -> Found {
    let connected = timeout_at(deadline, connect(port)).await.ok()?;
    Some(match connected {
        Ok((_, address)) => Ok(format!("{address} accepts connections")),
        Err(error) => Err(format!("connect to port {port}: {error}")),
    })
}

/// Connects to the loopback in whichever family somebody listens.
async fn connect(port: u16) -> io::Result<(TcpStream, SocketAddr)> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    match TcpStream::connect(v4).await {
        Ok(stream) => Ok((stream, v4)),
        // The first refusal says more than that there is no such family.
        Err(refused) => TcpStream::connect(v6).await.map(|stream| (stream, v6)).map_err(|_| refused),
    }
}

async fn http(port: u16, path: &str, deadline: Instant) -> Found {
    let answered = timeout_at(deadline, ask(port, path)).await.ok()?;
    Some(match answered {
        Ok(answer) => judge(&answer),
        Err(error) => Err(format!("GET {path} from port {port}: {error}")),
    })
}

/// Asks, and reads the first line of the answer. Source: RFC 9112; with 1.0 the server closes the connection.
async fn ask(port: u16, path: &str) -> io::Result<Vec<u8>> {
    let (mut stream, _) = connect(port).await?;
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: localhost:{port}\r\nUser-Agent: firstlight-health\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(MAX_STATUS_LINE);
    while answer.len() < MAX_STATUS_LINE && !answer.contains(&b'\n') {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    Ok(answer)
}

/// Judges the beginning of an HTTP answer.
fn judge(answer: &[u8]) -> Result<String, String> {
    let line = answer.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).into_owned();
    let mut words = line.split(' ');
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/"));
    let status: Option<u16> = words.next().filter(|_| is_http).and_then(|status| status.parse().ok());
    match status {
        Some(200..=399) => Ok(line),
        Some(_) => Err(line),
        None if line.is_empty() => Err("the server closed the connection without an answer".into()),
        None => Err(format!("no HTTP answer: {line}")),
    }
}

/// At most [`MAX_DETAIL`] bytes, cut between two characters.
fn shortened(detail: &str) -> String {
    let end = detail.floor_char_boundary(MAX_DETAIL);
    detail[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_judged_by_its_status() {
        assert_eq!(judge(b"HTTP/1.1 204 No Content\r\nX: y\r\n"), Ok("HTTP/1.1 204 No Content".into()));
        assert_eq!(judge(b"HTTP/1.0 302 Found\n"), Ok("HTTP/1.0 302 Found".into()));
        assert_eq!(judge(b"HTTP/1.1 503 Busy\r\n"), Err("HTTP/1.1 503 Busy".into()));
        assert_eq!(judge(b"HTTP/1.1 100\r\n"), Err("HTTP/1.1 100".into()));
        assert_eq!(judge(b"SSH-2.0-x\r\n"), Err("no HTTP answer: SSH-2.0-x".into()));
        assert!(judge(b"").unwrap_err().contains("without an answer"));
    }

    #[test]
    fn what_is_found_is_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let cut = shortened(&format!("a{}", "ä".repeat(MAX_DETAIL)));
        assert_eq!(cut.len(), MAX_DETAIL - 1);
    }
}

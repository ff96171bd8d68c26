//! What a command gets, what it gives, and how it ends.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use firstlight_guest_agent::sys;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::exec::{ExecOutcome, ExecRequest};
use firstlight_protocol::sentinel::ExitStatus;
use nix::unistd::getuid;

use super::common::{Agent, Ended, command, is_running, script, wait_for_end};

fn exited(code: u8) -> ExecOutcome {
    ExecOutcome::Exited(ExitStatus::Code(code))
}

#[track_caller]
fn exec(request: &ExecRequest) -> Ended {
    Agent::start().connect().exec(request)
}

#[track_caller]
fn spawn_error(request: &ExecRequest) -> AgentError {
    let outcome = exec(request).outcome;
    let ExecOutcome::SpawnFailed(error) = outcome else { panic!("{outcome:?}") };
    error
}

fn system_error(operation: &str, path: &str, errno: i32) -> AgentError {
    AgentError { operation: operation.into(), path: Some(path.into()), cause: Cause::Errno(errno) }
}

fn kill(pid: &str) {
    sys::kill(pid.parse().unwrap(), libc::SIGKILL).unwrap();
}

#[test]
fn streams_stay_apart_and_the_exit_code_comes_last() {
    let ended = exec(&script("echo out; echo err >&2; exit 42"));
    assert_eq!(
        (ended.text(), ended.stderr.as_slice(), &ended.outcome),
        ("out\n", &b"err\n"[..], &exited(42))
    );
}

#[test]
fn a_signal_is_no_exit_code() {
    let agent = Agent::start();
    let mut client = agent.connect();
    for signal in [libc::SIGTERM, libc::SIGSEGV, 40] {
        let status = ExitStatus::Signal(u8::try_from(signal).unwrap());
        let ended = client.sh(&format!("ulimit -c 0; kill -{signal} $$"));
        assert_eq!(ended.outcome, ExecOutcome::Exited(status));
    }
    assert_eq!(client.sh("exit 143").outcome, exited(143));
}

#[test]
fn the_environment_is_the_default_and_what_was_asked_for() {
    let mut request = command(&["env"]);
    request.env = vec![(b"GREETING".to_vec(), b"a=b c".to_vec()), (b"HOME".to_vec(), b"/elsewhere".to_vec())];
    let ended = exec(&request);
    let mut names: Vec<&str> = ended.text().lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["GREETING", "HOME", "LOGNAME", "PATH", "USER"]);
    assert!(ended.text().contains("GREETING=a=b c\n") && ended.text().contains("HOME=/elsewhere\n"));
}

#[test]
fn nothing_of_the_agent_is_inherited() {
    let ended = exec(&script("ls /proc/$$/fd; echo; ulimit -Sn; cat /proc/$$/stat"));
    let (descriptors, rest) = ended.text().split_once("\n\n").unwrap();
    assert_eq!(descriptors, "0\n1\n2");
    let (limit, stat) = rest.split_once('\n').unwrap();
    let own = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap().0;
    assert_eq!(limit, own.to_string());
    let fields: Vec<&str> = stat.split_once(") ").unwrap().1.split(' ').collect();
    let pid = stat.split(' ').next().unwrap();
    // Process group and session, fields 5 and 6 of proc_pid_stat(5).
    assert_eq!((fields[2], fields[3]), (pid, pid));
}

#[test]
fn the_working_directory_is_the_one_asked_for() {
    let directory = tempfile::tempdir().unwrap().keep().canonicalize().unwrap();
    let path = directory.to_str().unwrap();
    let mut request = command(&["pwd"]);
    assert_eq!(exec(&request).text(), "/\n");
    request.cwd = Some(path.into());
    assert_eq!(exec(&request).text(), format!("{path}\n"));
    std::fs::remove_dir(&directory).unwrap();
    assert_eq!(spawn_error(&request), system_error("chdir", path, libc::ENOENT));
}

#[test]
fn a_missing_command_is_told_from_a_missing_directory() {
    let missing = "/no/such/command";
    assert_eq!(spawn_error(&command(&[missing])), system_error("exec", missing, libc::ENOENT));
    assert_eq!(spawn_error(&command(&["no-such-name"])), system_error("exec", "no-such-name", libc::ENOENT));
    assert_eq!(spawn_error(&command(&["/etc/passwd"])), system_error("exec", "/etc/passwd", libc::EACCES));
    let mut nowhere = command(&["true"]);
    nowhere.cwd = Some(b"/no/such/directory".to_vec());
    assert_eq!(spawn_error(&nowhere), system_error("chdir", "/no/such/directory", libc::ENOENT));
}

#[test]
fn requests_that_contradict_themselves_are_invalid() {
    let broken: [fn(&mut ExecRequest); 7] = [
        |request| request.argv.clear(),
        |request| request.argv[0].clear(),
        |request| request.argv.push(b"a\0b".to_vec()),
        |request| request.cwd = Some(b"/\0".to_vec()),
        |request| request.env.push((b"A=B".to_vec(), b"".to_vec())),
        |request| request.env.push((b"A".to_vec(), b"\0".to_vec())),
        |request| request.user = Some("no-such-user".into()),
    ];
    let agent = Agent::start();
    let mut client = agent.connect();
    for breaks in broken {
        let mut request = command(&["true"]);
        breaks(&mut request);
        let ended = client.exec(&request);
        let ExecOutcome::SpawnFailed(error) = ended.outcome else { panic!("{request:?}") };
        assert!(matches!(error.cause, Cause::Invalid(_)), "{error:?}");
    }
}

#[test]
fn a_user_by_number_needs_no_entry() {
    if !getuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let mut request = script("id -u; id -g; id -G; echo $HOME; echo ${USER-nobody}");
    request.user = Some("54321:12345".into());
    assert_eq!(exec(&request).text(), "54321\n12345\n12345\n/\nnobody\n");
    request.user = Some("root".into());
    assert_eq!(exec(&request).text().lines().next(), Some("0"));
}

#[test]
fn a_user_cannot_go_where_only_root_can() {
    if !getuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    let path = directory.path().to_str().unwrap();
    let mut request = command(&["pwd"]);
    request.user = Some("54321".into());
    request.cwd = Some(path.into());
    assert_eq!(spawn_error(&request), system_error("chdir", path, libc::EACCES));
}

#[test]
fn megabytes_of_standard_input_come_back() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let mut request = command(&["cat"]);
    request.stdin = true;
    client.begin(1, &request);
    let input: Vec<u8> = (0..8_u32 << 20).map(|index| (index / 251).to_le_bytes()[0]).collect();
    client.started(1);
    let ended = client.finish_with_input(1, &input);
    assert!(ended.stdout == input);
    assert_eq!(ended.outcome, exited(0));
}

#[test]
fn without_standard_input_there_is_nothing_to_read() {
    let ended = exec(&command(&["cat"]));
    assert_eq!((ended.text(), &ended.outcome), ("", &exited(0)));
}

#[test]
fn input_that_nobody_reads_disturbs_nothing_after() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let mut request = script("exec <&-; echo closed");
    request.stdin = true;
    client.begin(1, &request);
    client.started(1);
    for _ in 0..64 {
        client.send(Kind::Stdin, 1, &[0; 1024]);
    }
    client.send(Kind::StdinEnd, 1, &[]);
    client.finish(1);
    client.send(Kind::Stdin, 1, b"too late");
    client.ping();
    assert_eq!(client.sh("echo again").text(), "again\n");
}

#[test]
fn a_signal_reaches_the_whole_group() {
    let agent = Agent::start();
    let mut client = agent.connect();
    client
        .begin(1, &script("trap 'echo caught; wait; exit 7' USR1; sh -c 'echo $$; exec sleep 1000' & wait"));
    let session = client.session_started(1).key.id;
    let child = client.first_line(1).parse().unwrap();
    agent.connect().signal(session, libc::SIGUSR1);
    let ended = client.finish(1);
    assert_eq!((ended.text(), &ended.outcome), ("caught\n", &exited(7)));
    wait_for_end(child);
}

#[test]
fn a_timeout_kills_a_whole_group_that_ignores_sigterm() {
    let mut request = script("trap '' TERM; sleep 1000 & echo $!; sleep 1000");
    request.timeout_ms = Some(500);
    request.kill_after_ms = 200;
    let ended = exec(&request);
    assert_eq!(ended.outcome, ExecOutcome::TimedOut(ExitStatus::Signal(9)));
    wait_for_end(ended.text().trim().parse().unwrap());
}

#[test]
fn a_leader_that_obeys_is_told_of_at_once_and_its_group_still_killed() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let mut request = script("(trap '' TERM; echo ready; exec sleep 1000) & echo $!; wait");
    request.timeout_ms = Some(1000);
    request.kill_after_ms = 10_000;
    let ended = client.exec(&request);
    assert_eq!(ended.outcome, ExecOutcome::TimedOut(ExitStatus::Signal(15)));
    let child = ended.text().lines().find(|line| *line != "ready").unwrap().parse().unwrap();
    assert!(is_running(child), "told only after the rest of the group was killed");
    wait_for_end(child);
}

#[test]
fn a_command_that_ends_in_time_did_not_time_out() {
    let mut request = script("exit 3");
    request.timeout_ms = Some(60_000);
    assert_eq!(exec(&request).outcome, exited(3));
}

#[test]
fn the_end_is_told_although_a_background_child_holds_the_pipes() {
    let ended = exec(&script("sleep 1000 & echo $!"));
    assert_eq!(ended.outcome, exited(0));
    kill(ended.text().trim());
}

#[test]
fn the_end_is_told_although_a_background_child_never_stops_writing() {
    let ended = exec(&script("yes & echo $! >&2"));
    assert_eq!(ended.outcome, exited(0));
    kill(std::str::from_utf8(&ended.stderr).unwrap().trim());
}

#[test]
fn a_background_child_may_go_on_writing_to_nobody() {
    let agent = Agent::start();
    let directory = tempfile::tempdir().unwrap();
    let fifo = fifo(directory.path());
    let text = format!("(head -c 1000000 /dev/zero && echo survived > {fifo}) & exit 0");
    assert_eq!(agent.connect().sh(&text).outcome, exited(0));
    assert_eq!(std::fs::read_to_string(fifo).unwrap(), "survived\n");
}

#[test]
fn a_host_that_goes_away_ends_the_input_and_nothing_else() {
    let agent = Agent::start();
    let directory = tempfile::tempdir().unwrap();
    let fifo = fifo(directory.path());
    let mut client = agent.connect();
    let mut request = script(&format!("cat; head -c 1000000 /dev/zero; echo finished > {fifo}"));
    request.stdin = true;
    client.begin(1, &request);
    client.started(1);
    drop(client);
    assert_eq!(std::fs::read_to_string(fifo).unwrap(), "finished\n");
}

/// A FIFO, whose reader waits until somebody has written and closed it.
fn fifo(directory: &Path) -> String {
    let path = directory.join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    path.to_str().unwrap().to_owned()
}

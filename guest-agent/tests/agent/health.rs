//! Health checks: what they find, when they decide, and that they outlive the agent.

use std::net::TcpListener;
use std::path::Path;

use firstlight_protocol::message::batch::{Answer, Operation, Outcome};
use firstlight_protocol::message::error::Cause;
use firstlight_protocol::message::health::{Check, Health, Probe, State};

use super::batch::{batch, run};
use super::common::{Agent, Client};

fn check(name: &str, probe: Probe) -> Check {
    Check {
        name: name.into(),
        probe,
        interval_ms: 100,
        timeout_ms: 5000,
        failures: 2,
        successes: 1,
        grace_ms: 0,
    }
}

fn exec(argv: &[&str]) -> Probe {
    Probe::Exec(argv.iter().map(|argument| argument.as_bytes().to_vec()).collect())
}

#[track_caller]
fn ask(client: &mut Client, operation: Operation) -> Health {
    let outcome = run(client, &batch(vec![operation])).remove(0);
    let Outcome::Done(Answer::Health(health)) = outcome else { panic!("{outcome:?}") };
    health
}

/// Asks until the checks together are in this state; each question gives the agent's other tasks a turn.
#[track_caller]
fn wait_for(client: &mut Client, state: State) -> Health {
    let begun = std::time::Instant::now();
    loop {
        let health = ask(client, Operation::Health { decided: true });
        if health.state == state {
            return health;
        }
        assert!(begun.elapsed() < super::common::DEADLINE, "{health:?}");
    }
}

#[test]
fn without_checks_nobody_knows_and_nobody_waits() {
    let agent = Agent::start();
    let health = ask(&mut agent.connect(), Operation::Health { decided: true });
    assert_eq!(health, Health { state: State::Unchecked, checks: Vec::new() });
}

#[test]
fn each_check_stands_on_its_own_and_says_what_it_found() {
    let agent = Agent::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let closed = {
        let unused = TcpListener::bind("127.0.0.1:0").unwrap();
        unused.local_addr().unwrap().port()
    };
    let mut client = agent.connect();
    let checks = vec![
        check("good", exec(&["echo", "fine"])),
        check("bad", exec(&["sh", "-c", "echo broken; exit 4"])),
        check("missing", exec(&["/no/such/command"])),
        check("open", Probe::Tcp(port)),
        check("closed", Probe::Tcp(closed)),
        check("silent", exec(&["false"])),
    ];
    let health = ask(&mut client, Operation::SetHealth(checks));
    assert_eq!(health.state, State::Starting);
    let health = wait_for(&mut client, State::Unhealthy);
    let found: Vec<(State, String)> =
        health.checks.iter().map(|check| (check.state, check.last.clone().unwrap().detail)).collect();
    assert_eq!(found[0], (State::Healthy, "fine".into()));
    assert_eq!(found[1], (State::Unhealthy, "exit code 4: broken".into()));
    assert_eq!(found[2].0, State::Unhealthy);
    assert!(found[2].1.contains("/no/such/command: No such file"), "{found:?}");
    assert_eq!(found[3], (State::Healthy, format!("127.0.0.1:{port} accepts connections")));
    assert_eq!(found[4].0, State::Unhealthy);
    assert!(found[4].1.contains("refused"), "{found:?}");
    assert_eq!(found[5], (State::Unhealthy, "exit code 1".into()));
}

#[test]
fn an_http_server_is_judged_by_its_answer() {
    let agent = Agent::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = agent.connect();
    let probe = Probe::Http { port, path: "/ready".into() };
    ask(&mut client, Operation::SetHealth(vec![Check { failures: 1, ..check("web", probe) }]));
    let answer = |status: &str| {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 16];
        std::io::Read::read_exact(&mut stream, &mut request).unwrap();
        assert_eq!(&request[..12], b"GET /ready H");
        std::io::Write::write_all(&mut stream, format!("HTTP/1.0 {status}\r\n\r\n").as_bytes()).unwrap();
        // All of the request has to be read, or the close is a reset.
        let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    };
    answer("503 Unavailable");
    assert_eq!(wait_for(&mut client, State::Unhealthy).checks[0].failures, 1);
    answer("200 OK");
    let health = wait_for(&mut client, State::Healthy);
    assert_eq!(health.checks[0].last.clone().unwrap().detail, "HTTP/1.0 200 OK");
}

#[test]
fn a_check_that_hangs_has_failed_at_its_timeout() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let hangs = Check { timeout_ms: 200, failures: 1, ..check("hangs", exec(&["sleep", "1000"])) };
    ask(&mut client, Operation::SetHealth(vec![hangs]));
    let health = wait_for(&mut client, State::Unhealthy);
    assert_eq!(health.checks[0].last.clone().unwrap().detail, "timed out after 200 ms");
}

#[test]
fn new_checks_take_the_place_of_the_old() {
    let agent = Agent::start();
    let mut client = agent.connect();
    ask(&mut client, Operation::SetHealth(vec![check("old", exec(&["false"]))]));
    wait_for(&mut client, State::Unhealthy);
    ask(&mut client, Operation::SetHealth(vec![check("new", exec(&["true"]))]));
    assert_eq!(wait_for(&mut client, State::Healthy).checks[0].name, "new");
    ask(&mut client, Operation::SetHealth(Vec::new()));
    assert_eq!(ask(&mut client, Operation::Health { decided: false }).state, State::Unchecked);
}

#[test]
fn checks_that_make_no_sense_leave_the_old_ones_alone() {
    let agent = Agent::start();
    let mut client = agent.connect();
    ask(&mut client, Operation::SetHealth(vec![check("kept", exec(&["true"]))]));
    let twice = vec![check("twice", exec(&["true"])), check("twice", exec(&["true"]))];
    let outcome = run(&mut client, &batch(vec![Operation::SetHealth(twice)])).remove(0);
    let Outcome::Error(error) = outcome else { panic!("{outcome:?}") };
    assert!(matches!(error.cause, Cause::Invalid(_)), "{error:?}");
    assert_eq!(wait_for(&mut client, State::Healthy).checks[0].name, "kept");
}

#[test]
fn a_restarted_agent_goes_on_with_the_checks() {
    let agent = Agent::start();
    ask(&mut agent.connect(), Operation::SetHealth(vec![check("kept", exec(&["true"]))]));
    let file = agent.events().with_file_name("health");
    let kept = std::fs::read(&file).unwrap();
    agent.kill();
    let successor = Agent::start_prepared(|directory: &Path| {
        std::fs::write(directory.join("health"), &kept).unwrap();
    });
    assert_eq!(wait_for(&mut successor.connect(), State::Healthy).checks[0].name, "kept");
}

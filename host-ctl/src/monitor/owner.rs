//! The one owner of a VM's state: everything that happens passes through here, in one order.

use std::path::PathBuf;

use firstlight_protocol::boot_spec::OnFatal;
use firstlight_protocol::init_command::InitCommand;
use firstlight_protocol::sentinel::Event;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep_until};

use super::input::{Input, Told};
use super::ledger::Ledger;
use super::server::{Client, Subscribers};
use super::signals::Signals;
use super::stop::{Step, StopPlan, TEARDOWN};
use super::tasks::Tasks;
use super::vmm::VmmCommand;
use super::wire::{Message, Request};
use crate::driver::VmmEvent;
use crate::driver::qemu::qmp::RunState;
use crate::snapshot::Obstacle;
use crate::snapshot::manifest::Disk;
use crate::vm::record::{SaveFailure, SaveFault};
use crate::vm::vm_dir::name;
use crate::vm::{Entry, Record, VmSpec};

/// Most inputs taken before their records are written: they share one write to the disk.
const BATCH: usize = 64;

/// How long a full disk is left alone before the next try.
const DISK_RETRY: Duration = Duration::from_millis(250);

/// Whether a VM's boot goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vmm {
    Runs,
    Gone,
}

/// The owner.
pub(super) struct Owner<'a> {
    spec: &'a VmSpec,
    ledger: &'a mut Ledger,
    subscribers: Subscribers,
    /// Init's event streams, the newest last.
    streams: Vec<(u64, mpsc::Sender<InitCommand>)>,
    signals: Signals,
    stop: StopPlan,
    /// The grace of the stop that counts, for streams that open later.
    grace_ms: Option<u32>,
    tasks: &'a mut Tasks,
    vmm: Vmm,
    /// How often the guest was paused or resumed: an answer to an earlier change comes too late.
    changes: u64,
    disk_retry: Option<Instant>,
}

impl<'a> Owner<'a> {
    pub(super) fn new(spec: &'a VmSpec, ledger: &'a mut Ledger, tasks: &'a mut Tasks) -> Owner<'a> {
        Owner {
            spec,
            ledger,
            subscribers: Subscribers::default(),
            streams: Vec::new(),
            signals: Signals::default(),
            stop: StopPlan::default(),
            grace_ms: None,
            tasks,
            vmm: Vmm::Runs,
            changes: 0,
            disk_retry: None,
        }
    }

    /// Goes on where an earlier monitor was killed: with what the serial log says since, and what the VMM says now.
    pub(super) fn recover(&mut self, said: impl Iterator<Item = Input>, run_state: Option<RunState>) {
        self.resume();
        self.take(said.collect());
        if self.is_saving() {
            let reason = "the monitor was killed while it saved the VM".to_owned();
            self.tasks.end_save(SaveFailure { kind: SaveFault::Interrupted, reason });
        }
        match run_state {
            Some(RunState::Off) => self.take_other(Input::Vmm(VmmEvent::GuestOff)),
            Some(RunState::Paused) => self.paused(true),
            Some(RunState::Running) => self.resumed(),
            None => {}
        }
        let boot = self.ledger.fold().boot();
        if let Some(boot) = boot.filter(|boot| boot.facts.agent_ready) {
            self.tasks.recall_events(boot.first_missing_event());
        }
    }

    /// A copy that has not been told who it is, by us or an earlier monitor, is told now. One that stands still is told when
    /// it moves.
    pub(super) fn tell_copy(&mut self) {
        if self.ledger.fold().boot().is_some_and(|boot| boot.is_untold() && !boot.paused) {
            self.tasks.tell_copy();
        }
    }

    /// The boot's processes are to live on whatever becomes of us.
    pub(super) fn let_live(&mut self) {
        self.tasks.let_live();
    }

    /// What an earlier monitor had learned calls for the same as if it were new.
    fn resume(&mut self) {
        let (records, _) = self.ledger.boot();
        let mut grace = None;
        let events: Vec<Record> = records.to_vec();
        for record in &events {
            if let Entry::StopRequested { grace_ms } = &record.entry {
                grace = Some(*grace_ms);
            }
            self.react(record);
        }
        if let Some(grace_ms) = grace {
            self.ask_to_stop(grace_ms);
        }
    }

    /// Works until the VMM is gone.
    pub(super) async fn run(&mut self, inputs: &mut mpsc::Receiver<Input>) {
        while self.vmm == Vmm::Runs {
            let deadline =
                [self.stop.deadline(), self.disk_retry, self.signals.deadline()].into_iter().flatten().min();
            let input = tokio::select! {
                input = inputs.recv() => input,
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.on_time(Instant::now());
                    continue;
                }
            };
            let Some(input) = input else { return };
            let mut batch = vec![input];
            while batch.len() < BATCH
                && let Ok(input) = inputs.try_recv()
            {
                batch.push(input);
            }
            self.take(batch);
        }
    }

    /// The VMM is gone: ends what served it. Says how the VMM ended.
    pub(super) fn close_tasks(&mut self) -> String {
        self.tasks.close()
    }

    /// Works until the tasks have told what was still on its way, or until `deadline`.
    pub(super) async fn drain(&mut self, inputs: &mut mpsc::Receiver<Input>, deadline: Instant) {
        loop {
            tokio::select! {
                biased;
                Some(input) = inputs.recv() => self.take(vec![input]),
                more = self.tasks.join_next() => if !more { break },
                () = sleep_until(deadline) => break,
            }
        }
        while let Ok(input) = inputs.try_recv() {
            self.take(vec![input]);
        }
    }

    /// Writes the boot's last record, however long the disk is full. A client that kills the VM once more gives up what
    /// the disk does not take.
    pub(super) async fn close(&mut self, status: String, inputs: &mut mpsc::Receiver<Input>) -> Vec<Record> {
        let kept = self.ledger.keep(vec![Entry::VmmExited { status }]);
        if !kept.persisted {
            self.tell(&kept.records, false);
        }
        while !self.ledger.retry() {
            let wait = Instant::now() + DISK_RETRY;
            tokio::select! {
                () = sleep_until(wait) => {}
                input = inputs.recv() => match input {
                    Some(Input::Request { request: Request::Kill, client }) => {
                        client.say(&Message::Accepted);
                        break;
                    }
                    Some(input) => self.take(vec![input]),
                    None => break,
                },
            }
        }
        if kept.persisted { kept.records } else { Vec::new() }
    }

    /// The last words to those who subscribed.
    pub(super) fn say_last(mut self, records: &[Record]) {
        self.tell(records, true);
        self.subscribers.say(&Message::Persisted);
    }

    fn on_time(&mut self, now: Instant) {
        self.signals.expire(now);
        if self.disk_retry.is_some_and(|at| now >= at) {
            self.disk_retry = None;
            if self.ledger.retry() {
                self.subscribers.say(&Message::Persisted);
            } else {
                self.disk_retry = Some(now + DISK_RETRY);
            }
        }
        match self.stop.expire(now) {
            Some(Step::Quit) => {
                self.keep(vec![forced("the guest did not end in time; the VMM was told to quit")]);
                self.tasks.tell_vmm(VmmCommand::Quit);
            }
            Some(Step::Kill) => {
                self.keep(vec![forced("the VMM did not quit in time; it was killed")]);
                self.tasks.kill_vmm();
            }
            None => {}
        }
    }

    fn take(&mut self, batch: Vec<Input>) {
        let mut heard = Vec::new();
        for input in batch {
            if let Input::Heard { sentinel, source } = input {
                heard.push(Entry::Event { sentinel, source });
            } else {
                // In the order in which they came.
                self.keep(std::mem::take(&mut heard));
                self.take_other(input);
            }
        }
        self.keep(heard);
    }

    fn take_other(&mut self, input: Input) {
        match input {
            Input::Heard { sentinel, source } => self.keep(vec![Entry::Event { sentinel, source }]),
            Input::SerialRotated => self.keep(vec![Entry::LogRotated { log: name::SERIAL_LOG.into() }]),
            Input::OutputGrew => self.subscribers.say_output(),
            Input::Vmm(VmmEvent::GuestOff) => self.quit_vmm(),
            Input::Vmm(VmmEvent::Paused) => {
                self.changes += 1;
                self.paused(true);
            }
            Input::Vmm(VmmEvent::Resumed) => self.resumed(),
            Input::ClockSet { resumption } if resumption == self.changes => self.paused(false),
            Input::ClockSet { .. } => {}
            Input::VmmGone => self.vmm = Vmm::Gone,
            Input::StreamOpened { id, commands } => {
                if let Some(grace_ms) = self.grace_ms {
                    let _ = commands.try_send(InitCommand::Stop { grace_ms });
                }
                if self.is_copy_restored() {
                    let _ = commands.try_send(InitCommand::Restore { boot: self.tasks.boot_id() });
                }
                self.signals.deliver(&commands);
                self.streams.push((id, commands));
            }
            Input::StreamClosed { id } => self.streams.retain(|(stream, _)| *stream != id),
            Input::Saved(saved) => self.saved(saved),
            Input::Restored(told) => self.restored(told),
            Input::Request { client, request } => self.answer(client, &request),
        }
    }

    fn saved(&mut self, saved: Result<Vec<Disk>, SaveFailure>) {
        let (failure, disks) = match saved {
            Ok(disks) => (None, disks),
            Err(failure) => (Some(failure), Vec::new()),
        };
        self.keep(vec![Entry::SaveEnded { failure, disks }]);
    }

    /// From here on the copy's init speaks for itself.
    fn restored(&mut self, told: Result<Told, String>) {
        match told {
            Ok(Told { answered, steps }) => {
                self.keep(vec![Entry::Restored { answered: Some(answered), steps }]);
                self.say_to_init(InitCommand::Restore { boot: self.tasks.boot_id() });
            }
            // A copy that is nobody in particular must not go on.
            Err(reason) => {
                self.keep(vec![Entry::RestoreFailed { reason }]);
                self.stop.killed();
                self.tasks.kill_vmm();
            }
        }
    }

    fn is_copy_restored(&self) -> bool {
        self.ledger.fold().boot().is_some_and(|boot| boot.copy_of.is_some() && !boot.is_untold())
    }

    fn save(&mut self, draft: PathBuf) -> Message {
        let refused = match self.ledger.fold().boot() {
            Some(boot) if boot.saving => Some("a snapshot of it is being taken already".to_owned()),
            Some(boot) if boot.paused => Some("it is paused; resume it first".to_owned()),
            Some(boot) => match (Obstacle::of_boot(boot), boot.vmm) {
                (Some(obstacle), _) => Some(obstacle.to_string()),
                (None, Some(vmm)) => self.tasks.save(self.spec, vmm, draft).err(),
                (None, None) => Some("it does not run".to_owned()),
            },
            None => Some("it does not run".to_owned()),
        };
        match refused {
            Some(reason) => Message::Refused { reason },
            None => {
                self.keep(vec![Entry::SaveStarted]);
                Message::Accepted
            }
        }
    }

    fn is_saving(&self) -> bool {
        self.ledger.fold().boot().is_some_and(|boot| boot.saving)
    }

    /// A guest that is held because it has ended is not a paused one.
    fn paused(&mut self, paused: bool) {
        let known = self.ledger.fold().boot().is_some_and(|boot| boot.paused == paused);
        if !known && !self.stop.is_quitting() {
            self.keep(vec![Entry::Paused { paused }]);
            self.tell_copy();
        }
    }

    /// The guest goes on. Its clock stood still with it, and it counts as paused until that is right; a copy that goes on for the
    /// first time is told the time with everything else.
    fn resumed(&mut self) {
        self.changes += 1;
        let boot = self.ledger.fold().boot();
        let behind = boot.is_some_and(|boot| boot.paused && boot.facts.agent_ready && !boot.is_untold());
        if !behind || !self.tasks.set_clock(self.changes) {
            self.paused(false);
        }
    }

    fn quit_vmm(&mut self) {
        self.stop.quitting(Instant::now());
        self.tasks.tell_vmm(VmmCommand::Quit);
    }

    fn answer(&mut self, client: Client, request: &Request) {
        let answer = match request {
            Request::Subscribe => {
                self.welcome(client);
                return;
            }
            Request::Stop { grace_ms } => {
                self.keep(vec![Entry::StopRequested { grace_ms: *grace_ms }]);
                self.ask_to_stop(*grace_ms);
                Message::Accepted
            }
            Request::Kill => {
                self.keep(vec![Entry::Killed]);
                self.stop.killed();
                self.tasks.kill_vmm();
                Message::Accepted
            }
            Request::Signal { number } => {
                if !self.say_to_init(InitCommand::Signal { number: *number }) {
                    self.signals.wait(client, *number, Instant::now());
                    return;
                }
                Message::Accepted
            }
            Request::Snapshot { draft } => self.save(draft.clone()),
            Request::Pause | Request::Resume if self.is_saving() => {
                let reason = "a snapshot of it is being taken; it goes on when that is done";
                Message::Refused { reason: reason.into() }
            }
            Request::Pause => {
                self.tasks.tell_vmm(VmmCommand::Pause);
                Message::Accepted
            }
            Request::Resume => {
                self.tasks.tell_vmm(VmmCommand::Resume);
                Message::Accepted
            }
        };
        client.say(&answer);
    }

    fn welcome(&mut self, client: Client) {
        let (records, unpersisted) = self.ledger.boot();
        let persisted = records.len() - unpersisted;
        for (index, record) in records.iter().enumerate() {
            client.say(&Message::Record { record: record.clone(), persisted: index < persisted });
        }
        client.say(&Message::Synced);
        self.subscribers.add(client);
    }

    /// Says a command on every stream that proved to be init's; `false` when there is none.
    fn say_to_init(&mut self, command: InitCommand) -> bool {
        self.streams.iter().filter(|(_, commands)| commands.try_send(command).is_ok()).count() > 0
    }

    fn ask_to_stop(&mut self, grace_ms: Option<u32>) {
        let asked = grace_ms.unwrap_or(self.spec.program.stop_grace_ms);
        // Repeated, the shortest counts; init holds to the same.
        let grace_ms = self.grace_ms.map_or(asked, |before| before.min(asked));
        self.grace_ms = Some(grace_ms);
        self.stop.expect_end(Instant::now() + Duration::from_millis(grace_ms.into()) + TEARDOWN);
        if self.ledger.fold().boot().is_some_and(|boot| boot.paused) {
            // A guest that stands still hears nothing.
            self.tasks.tell_vmm(VmmCommand::Resume);
        }
        let ready = self.ledger.fold().boot().is_some_and(|boot| boot.facts.agent_ready);
        // Where init has not dialled yet, it hears of the stop when it does.
        if !self.say_to_init(InitCommand::Stop { grace_ms }) && ready {
            self.tasks.ask_agent_to_shut_down(grace_ms);
        }
    }

    /// Writes records, tells those who subscribed, and does what the records call for.
    fn keep(&mut self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let kept = self.ledger.keep(entries);
        if !kept.persisted {
            self.disk_retry.get_or_insert(Instant::now() + DISK_RETRY);
        } else if self.disk_retry.take().is_some() {
            self.subscribers.say(&Message::Persisted);
        }
        self.tell(&kept.records, kept.persisted);
        for record in &kept.records {
            self.react(record);
        }
    }

    fn tell(&mut self, records: &[Record], persisted: bool) {
        for record in records {
            self.subscribers.say(&Message::Record { record: record.clone(), persisted });
        }
    }

    /// What an event calls for.
    fn react(&mut self, record: &Record) {
        let Entry::Event { sentinel, .. } = &record.entry else { return };
        let now = Instant::now();
        match &sentinel.event {
            Event::AgentReady => self.tasks.follow_program_output(),
            // It has said that it ends, and is held to it.
            Event::Exit { .. } => {
                self.stop.expect_end(now + TEARDOWN);
            }
            Event::Fatal { .. } if self.spec.boot.on_fatal == OnFatal::PowerOff => {
                self.stop.expect_end(now + TEARDOWN);
            }
            // Its file systems are unmounted: nothing is gained by waiting for its kernel to switch the machine off.
            Event::PowerOff => self.quit_vmm(),
            Event::Fatal { .. }
            | Event::InitStart
            | Event::Restored { .. }
            | Event::StageDone { .. }
            | Event::AgentExit { .. }
            | Event::ProgramStart { .. }
            | Event::SystemReady { .. }
            | Event::HeadersStart
            | Event::HeadersReady
            | Event::HeadersSkipped { .. }
            | Event::HeadersFailed { .. } => {}
        }
    }
}

fn forced(reason: &str) -> Entry {
    Entry::Forced { reason: reason.to_owned() }
}

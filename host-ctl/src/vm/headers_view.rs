//! How the installation of kernel headers stands, as this boot's events tell it.

use firstlight_protocol::headers::State;
use firstlight_protocol::sentinel::Event;
use serde::Serialize;

use super::fold::{Boot, Heard};
use crate::clock::ms;

/// How it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadersView {
    /// How far it is.
    pub state: State,
    /// Why nothing was installed.
    pub reason: Option<String>,
    /// From the worker's start to its end, in ms.
    pub took_ms: Option<f64>,
}

impl HeadersView {
    /// What `boot` says of it. One installation a boot: the last event is how it stands.
    #[must_use]
    pub(super) fn of(boot: Option<&Boot>) -> HeadersView {
        let mut view = HeadersView { state: State::Pending, reason: None, took_ms: None };
        let mut started = None;
        for Heard { sentinel, .. } in boot.iter().flat_map(|boot| boot.events.values()) {
            let Some((state, reason)) = state(&sentinel.event) else { continue };
            (view.state, view.reason) = (state, reason);
            match state {
                State::Running => started = Some(sentinel.t),
                State::Pending => {}
                State::Ready | State::Skipped | State::Failed => {
                    view.took_ms = started.map(|started| ms(sentinel.t.saturating_sub(started)));
                }
            }
        }
        view
    }
}

fn state(event: &Event) -> Option<(State, Option<String>)> {
    match event {
        Event::HeadersStart => Some((State::Running, None)),
        Event::HeadersReady => Some((State::Ready, None)),
        Event::HeadersSkipped { reason } => Some((State::Skipped, Some(reason.clone()))),
        Event::HeadersFailed { error } => Some((State::Failed, Some(error.clone()))),
        Event::InitStart
        | Event::Restored { .. }
        | Event::StageDone { .. }
        | Event::AgentReady
        | Event::AgentExit { .. }
        | Event::ProgramStart { .. }
        | Event::SystemReady { .. }
        | Event::Exit { .. }
        | Event::Fatal { .. }
        | Event::PowerOff => None,
    }
}

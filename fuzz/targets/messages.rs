//! Payloads: whatever decodes encodes to something that decodes to the same.

#![no_main]

use firstlight_protocol::codec::{decode, encode};
use firstlight_protocol::message::{
    batch, copy, error, events, exec, file, forward, health, hello, output, shutdown, status, sync,
};
use libfuzzer_sys::fuzz_target;

/// The message types, chosen among by the first byte.
macro_rules! round_trips {
    ($($message:ty,)*) => {
        /// How many there are.
        const MESSAGES: usize = [$(stringify!($message)),*].len();

        fn round_trip(which: usize, bytes: &[u8]) {
            let mut number = 0;
            $(
                if which == number
                    && let Ok(message) = decode::<$message>(bytes)
                    && let Ok(again) = encode(&message)
                {
                    assert_eq!(decode::<$message>(&again).as_ref(), Ok(&message));
                }
                number += 1;
            )*
            let _ = number;
        }
    };
}

round_trips! {
    hello::Hello,
    hello::Welcome,
    hello::Refusal,
    error::AgentError,
    status::Status,
    events::EventsRequest,
    events::Events,
    shutdown::ShutdownRequest,
    exec::ExecRequest,
    exec::ExecStarted,
    exec::ExecEnd,
    exec::SignalRequest,
    output::OutputRequest,
    output::OutputChunk,
    output::OutputEnd,
    output::OutputAck,
    file::FileStatRequest,
    file::FileStat,
    file::FileListRequest,
    file::FileList,
    file::MakeDirRequest,
    file::RemoveRequest,
    file::RenameRequest,
    copy::PullRequest,
    copy::PushRequest,
    copy::Entry,
    copy::Totals,
    forward::ForwardRequest,
    forward::ForwardTakeRequest,
    forward::ForwardListenRequest,
    forward::ForwardListening,
    forward::ForwardIncoming,
    forward::ForwardDecline,
    forward::Ports,
    sync::TreeRequest,
    sync::TreeItems,
    sync::TreeEnd,
    sync::FetchRequest,
    sync::AmendRequest,
    sync::AmendDone,
    batch::BatchRequest,
    batch::Batch,
    Vec<health::Check>,
}

fuzz_target!(|bytes: &[u8]| {
    if let Some((which, payload)) = bytes.split_first() {
        round_trip(usize::from(*which) % MESSAGES, payload);
    }
});

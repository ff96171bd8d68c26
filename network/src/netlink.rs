//! One netlink conversation: a request, its acknowledgement, the next request.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use netlink_packet_core::{
    ErrorBuffer, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};

use super::request::Request;

/// How long the kernel may take for one request. It answers before `send` returns.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of an answer that are read: an acknowledgement repeats at most the request.
const MAX_ANSWER: usize = 4 << 10;

/// A socket for route messages.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub fn open() -> nix::Result<Netlink> {
        // It needs no address: the first request binds it to one, and the kernel is whom a request without one is for.
        let socket = Socket::new(NETLINK_ROUTE).map_err(|error| io_errno(&error))?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Sends a request and waits for the kernel's answer.
    ///
    /// # Errors
    /// The errno the kernel answers with, or `ETIMEDOUT`.
    pub fn request(&mut self, request: Request) -> nix::Result<()> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(|error| io_errno(&error))?;
        self.answer()
    }

    fn answer(&self) -> nix::Result<()> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut bytes = [0; MAX_ANSWER];
        loop {
            let count = match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(count) => count,
                Err(Errno::EAGAIN) => {
                    self.wait_until(deadline)?;
                    continue;
                }
                Err(errno) => return Err(errno),
            };
            if let Some(answer) = read_answer(bytes.get(..count).unwrap_or_default(), self.sequence) {
                return answer;
            }
            if Instant::now() >= deadline {
                return Err(Errno::ETIMEDOUT);
            }
        }
    }

    /// Waits until there is something to read.
    fn wait_until(&self, deadline: Instant) -> nix::Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Ok(0) => return Err(Errno::ETIMEDOUT),
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// The number in an error of the standard library; the few without one are all about arguments.
fn io_errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw)
}

/// What the message says to request `sequence`; `None` when it is about something else.
fn read_answer(bytes: &[u8], sequence: u32) -> Option<nix::Result<()>> {
    let message = NetlinkBuffer::new_checked(bytes).ok()?;
    if message.message_type() != NLMSG_ERROR || message.sequence_number() != sequence {
        return None;
    }
    let error = ErrorBuffer::new_checked(message.payload()).ok()?;
    // The kernel has it negative; zero acknowledges.
    Some(error.code().map_or(Ok(()), |code| Err(Errno::from_raw(code.get().saturating_neg()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: u16, sequence: u32, code: i32) -> Vec<u8> {
        let mut bytes = 36_u32.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(code.to_ne_bytes());
        bytes.extend([0; 16]);
        bytes
    }

    #[test]
    fn an_answer_is_read_as_its_errno_and_zero_as_well_done() {
        assert_eq!(read_answer(&answer(NLMSG_ERROR, 7, 0), 7), Some(Ok(())));
        assert_eq!(read_answer(&answer(NLMSG_ERROR, 7, -17), 7), Some(Err(Errno::EEXIST)));
    }

    #[test]
    fn what_answers_another_request_or_nothing_is_passed_over() {
        assert_eq!(read_answer(&answer(NLMSG_ERROR, 6, 0), 7), None);
        assert_eq!(read_answer(&answer(16, 7, 0), 7), None);
        assert_eq!(read_answer(&[1, 2, 3], 7), None);
    }
}

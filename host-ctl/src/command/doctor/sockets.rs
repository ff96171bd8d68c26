//! The state directory: it can be written, and sockets can be bound in it however deep it is.

use std::path::Path;

use firstlight_host_ctl::socket_path::{MAX_SOCKET_PATH, ShortPath};
use firstlight_host_ctl::vm::Store;
use tokio::net::{UnixListener, UnixStream};

use super::Finding;

/// What a VM's longest socket adds to the state directory: `vms/`, a name, and the event stream's socket.
const LONGEST: usize = "/vms//boot/vsock_4000001025".len() + firstlight_host_ctl::vm::id::MAX_NAME;

pub(super) async fn check(state_dir: &Path) -> Vec<Finding> {
    let other = "give another with --state-dir or FIRSTLIGHT_STATE_DIR";
    let store = match Store::open(state_dir) {
        Ok(store) => store,
        Err(error) => return vec![Finding::bad("state directory", error.to_string(), other)],
    };
    let longest = store.root().as_os_str().len() + LONGEST;
    let detail = if longest > MAX_SOCKET_PATH {
        format!("{}; its socket paths may be {longest} bytes, so they are shortened", store.root().display())
    } else {
        store.root().display().to_string()
    };
    let socket = match connect_in(store.root()).await {
        Ok(()) => Finding::good("sockets", "one was bound and reached in the state directory"),
        Err(error) => Finding::bad("sockets", format!("cannot bind or reach one: {error}"), other),
    };
    vec![Finding::good("state directory", detail), socket]
}

/// Binds a socket as deep as any VM's, and connects to it.
async fn connect_in(root: &Path) -> std::io::Result<()> {
    let dir = root.join(format!(".doctor-{}", std::process::id())).join("d".repeat(LONGEST));
    std::fs::create_dir_all(&dir)?;
    let path = dir.join("socket");
    let reached = async {
        let listener = UnixListener::bind(&ShortPath::of(&path)?)?;
        let _client = UnixStream::connect(&ShortPath::of(&path)?).await?;
        listener.accept().await.map(drop)
    };
    let reached = reached.await;
    let removed = dir.parent().map_or(Ok(()), std::fs::remove_dir_all);
    reached.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deep_state_directory_works_and_is_left_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("x".repeat(150));
        let findings = check(&deep).await;
        assert!(findings.iter().all(|finding| finding.mend.is_none()), "{findings:?}");
        let left: Vec<_> =
            std::fs::read_dir(&deep).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["vms"]);
    }

    #[tokio::test]
    async fn a_state_directory_that_cannot_be_made_says_what_to_give_instead() {
        let findings = check(Path::new("/proc/no-such-place")).await;
        assert!(findings[0].mend.as_ref().unwrap().contains("--state-dir"), "{findings:?}");
    }
}

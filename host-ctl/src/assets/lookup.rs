//! Where files are looked for.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::AssetError;

/// What the environment says, read once.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `FIRSTLIGHT_KERNEL`.
    pub kernel: Option<PathBuf>,
    /// `FIRSTLIGHT_MODULES`.
    pub modules: Option<PathBuf>,
    /// `FIRSTLIGHT_GUEST_DIR`: where guest-init and guest-agent are.
    pub guest_dir: Option<PathBuf>,
    /// `FIRSTLIGHT_BUSYBOX`.
    pub busybox: Option<PathBuf>,
    /// `FIRSTLIGHT_QEMU`.
    pub vmm: Option<PathBuf>,
    /// `FIRSTLIGHT_VSOCK_BACKEND`.
    pub vsock_backend: Option<PathBuf>,
    /// `FIRSTLIGHT_CACHE`, else `firstlight` in `XDG_CACHE_HOME` or `~/.cache`.
    pub cache: PathBuf,
    /// `PATH`.
    pub path: Vec<PathBuf>,
    /// Where our own executable is.
    pub executable_dir: Option<PathBuf>,
}

impl Environment {
    /// The process's own. A variable that is set but empty counts as unset.
    #[must_use]
    pub fn of_process() -> Environment {
        let variable =
            |name: &str| -> Option<OsString> { env::var_os(name).filter(|value| !value.is_empty()) };
        let path = |name: &str| variable(name).map(PathBuf::from);
        let cache_home = path("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let cache_home = cache_home.or_else(|| path("HOME").map(|home| home.join(".cache")));
        Environment {
            kernel: path("FIRSTLIGHT_KERNEL"),
            modules: path("FIRSTLIGHT_MODULES"),
            guest_dir: path("FIRSTLIGHT_GUEST_DIR"),
            busybox: path("FIRSTLIGHT_BUSYBOX"),
            vmm: path("FIRSTLIGHT_QEMU"),
            vsock_backend: path("FIRSTLIGHT_VSOCK_BACKEND"),
            cache: path("FIRSTLIGHT_CACHE")
                .or_else(|| cache_home.map(|home| home.join("firstlight")))
                .unwrap_or_else(|| env::temp_dir().join("firstlight-cache")),
            path: variable("PATH").map(|value| env::split_paths(&value).collect()).unwrap_or_default(),
            executable_dir: env::current_exe().ok().and_then(|path| Some(path.parent()?.to_owned())),
        }
    }

    /// Where a guest program may be: where the variable says and nowhere else; or beside our executable, or where
    /// cargo leaves it when it leaves us in `target/release`.
    pub(super) fn guest_candidates(&self, name: &str) -> Vec<PathBuf> {
        if let Some(dir) = &self.guest_dir {
            return vec![dir.join(name)];
        }
        let Some(dir) = &self.executable_dir else { return Vec::new() };
        vec![dir.join(name), dir.join("../x86_64-unknown-linux-gnu/guest").join(name)]
    }
}

/// A file: the one that was asked for, or the first candidate that exists. Absolute, because a monitor has another
/// working directory.
pub(super) fn file(
    what: &'static str,
    asked: Option<PathBuf>,
    candidates: &[PathBuf],
) -> Result<PathBuf, AssetError> {
    let candidates = asked.map_or_else(|| candidates.to_vec(), |path| vec![path]);
    let found = candidates.iter().find(|path| path.is_file());
    let found = found.ok_or_else(|| AssetError::Missing { what, looked: candidates.clone() })?;
    found.canonicalize().map_err(|source| AssetError::Unreadable { what, path: found.clone(), source })
}

/// A command: the one that was asked for, or the first of that name in `path`.
pub(super) fn command(
    what: &'static str,
    asked: Option<PathBuf>,
    path: &[PathBuf],
) -> Result<PathBuf, AssetError> {
    let candidates: Vec<PathBuf> = path.iter().map(|dir| dir.join(what)).collect();
    file(what, asked, &candidates)
}

/// A `lib/modules/RELEASE` directory: the one asked for or the default, or the only one in it.
pub(super) fn modules(asked: Option<PathBuf>, default: &Path) -> Result<PathBuf, AssetError> {
    let what = "modules";
    let base = asked.unwrap_or_else(|| default.to_owned());
    let missing = || AssetError::Missing { what, looked: vec![base.clone()] };
    let base = base.canonicalize().map_err(|_| missing())?;
    if is_release(&base) {
        return Ok(base);
    }
    let entries = fs::read_dir(&base).map_err(|_| missing())?;
    let mut releases: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| is_release(path)).collect();
    releases.sort();
    match releases.as_slice() {
        [] => Err(missing()),
        [one] => Ok(one.clone()),
        [..] => {
            let reason = "it holds several kernel releases; name one of them".to_owned();
            Err(AssetError::Wrong { what: "directory of one kernel's modules", path: base, reason })
        }
    }
}

fn is_release(path: &Path) -> bool {
    path.join("modules.dep").is_file()
}

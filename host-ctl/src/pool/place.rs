//! A pool's directory: `pools/NAME/` in the state directory, with the pool's lock, its socket and its journal.

use std::io;
use std::path::{Path, PathBuf};

use super::error::PoolError;
use super::name::check_name;
use crate::vm::lock::Lock;
use crate::vm::store::make_private_dir;

/// Where a pool lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolPlace {
    name: String,
    directory: PathBuf,
}

impl PoolPlace {
    /// The place of the pool `name`, whether there is such a pool or not.
    ///
    /// # Errors
    /// [`PoolError::BadName`].
    pub fn of(state_dir: &Path, name: &str) -> Result<PoolPlace, PoolError> {
        check_name(name)?;
        Ok(PoolPlace { name: name.to_owned(), directory: pools(state_dir).join(name) })
    }

    /// Every pool that was ever served and is not removed, by name.
    ///
    /// # Errors
    /// [`PoolError::Io`].
    pub fn all(state_dir: &Path) -> Result<Vec<PoolPlace>, PoolError> {
        let pools = pools(state_dir);
        let failed = |source| PoolError::Io { operation: "read", path: pools.clone(), source };
        let entries = match std::fs::read_dir(&pools) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut places = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            // Anything else there is not ours.
            places.extend(name.to_str().and_then(|name| PoolPlace::of(state_dir, name).ok()));
        }
        places.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(places)
    }

    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.join("pool.sock")
    }

    /// Takes the pool for this process, making its directory if there is none.
    ///
    /// # Errors
    /// [`PoolError::Served`] when another process has it.
    pub fn take(&self) -> Result<Lock, PoolError> {
        let path = self.directory.join("pool.lock");
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| PoolError::Io { operation, path, source }
        };
        make_private_dir(&self.directory)
            .map_err(|error| failed("make", &self.directory)(io::Error::other(error)))?;
        let lock = Lock::try_take(&path).map_err(failed("lock", &path))?;
        lock.ok_or_else(|| PoolError::Served { pool: self.name.clone() })
    }

    /// Removes the directory of a pool without VMs. The lock is the pool's.
    ///
    /// # Errors
    /// [`PoolError::Io`].
    pub fn remove(&self, _lock: &Lock) -> Result<(), PoolError> {
        std::fs::remove_dir_all(&self.directory).map_err(|source| PoolError::Io {
            operation: "remove",
            path: self.directory.clone(),
            source,
        })
    }
}

fn pools(state_dir: &Path) -> PathBuf {
    state_dir.join("pools")
}

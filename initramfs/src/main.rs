//! `mkinitramfs`: packs an initramfs from the command line.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use firstlight_initramfs::{BuiltinRoot, Error, Shared, Signatures, vm_segment};
use firstlight_protocol::boot_spec::BootSpec;
use tempfile::NamedTempFile;

/// Pack a Firstlight initramfs.
///
/// The same files and options give the same bytes. Archives may be appended to one another: the shared archive and
/// the small one that --boot-spec adds can be made apart and put together with cat.
#[derive(Debug, Parser)]
#[command(name = "mkinitramfs", version)]
struct Arguments {
    /// guest-init, a static binary: becomes /init
    #[arg(long, value_name = "PATH")]
    init: PathBuf,

    /// guest-agent, a static binary: becomes /firstlight/agent; leave it out for VMs without an agent
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,

    /// The kernel's lib/modules/RELEASE directory, with its modules.dep
    #[arg(long, value_name = "DIR")]
    modules: PathBuf,

    /// A kernel module to carry with all it needs; may be repeated. One built into the kernel is fine
    #[arg(long = "module", value_name = "NAME")]
    names: Vec<String>,

    /// Take the modules' signatures away: a kernel that does not insist on them loads modules much faster without
    #[arg(long)]
    strip_signatures: bool,

    /// Append this VM's boot spec, a JSON file, which is checked as init would check it
    #[arg(long, value_name = "FILE")]
    boot_spec: Option<PathBuf>,

    /// A root file system at /firstlight/root: `busybox=PATH` makes one around a static busybox, `dir=PATH` copies one
    #[arg(long, value_name = "KIND=PATH", value_parser = parse_root)]
    root: Option<Root>,

    /// Where the archive goes; an existing file is replaced only when the new one is complete
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Debug, Clone)]
enum Root {
    Busybox(PathBuf),
    Directory(PathBuf),
}

fn parse_root(text: &str) -> Result<Root, String> {
    match text.split_once('=') {
        Some(("busybox", path)) => Ok(Root::Busybox(path.into())),
        Some(("dir", path)) => Ok(Root::Directory(path.into())),
        Some(_) | None => Err("expected busybox=PATH or dir=PATH".to_owned()),
    }
}

impl Arguments {
    fn pack(&self) -> Result<Vec<u8>, Error> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let mut bytes = Shared {
            init: &self.init,
            agent: self.agent.as_deref(),
            modules_dir: &self.modules,
            modules: &names,
            signatures: if self.strip_signatures { Signatures::Strip } else { Signatures::Keep },
            builtin_root: self.root.as_ref().map(|root| match root {
                Root::Busybox(path) => BuiltinRoot::Busybox(path),
                Root::Directory(path) => BuiltinRoot::Directory(path),
            }),
        }
        .pack()?;
        if let Some(path) = &self.boot_spec {
            let json = fs::read(path).map_err(io_error("read", path))?;
            bytes.extend(vm_segment(&BootSpec::from_json(&json)?)?);
        }
        Ok(bytes)
    }

    fn run(&self) -> Result<(), Error> {
        let bytes = self.pack()?;
        let parent = match self.output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        // Mode 0600 from the start: the archive may hold a boot's secrets.
        let mut file = NamedTempFile::new_in(parent).map_err(io_error("create a file in", parent))?;
        file.write_all(&bytes).map_err(io_error("write", file.path()))?;
        file.persist(&self.output).map_err(|error| io_error("create", &self.output)(error.error))?;
        Ok(())
    }
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { operation, path, source }
}

fn main() -> ExitCode {
    match Arguments::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do when even standard error is closed.
            let _ = writeln!(io::stderr(), "mkinitramfs: {error}");
            ExitCode::FAILURE
        }
    }
}

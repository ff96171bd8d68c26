//! `pool serve POOL [FLAGS] [-- CMD ARG...]`

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use firstlight_host_ctl::assets;
use firstlight_host_ctl::clock::{Stamp, host_boot_id};
use firstlight_host_ctl::pool::news::News;
use firstlight_host_ctl::pool::place::PoolPlace;
use firstlight_host_ctl::pool::policy::{Bounds, Moment};
use firstlight_host_ctl::pool::service::{Service, Setup};
use firstlight_host_ctl::pool::vms::{self, Blueprint, VmDriver};
use firstlight_host_ctl::pool::{Pool, PoolError, server};
use firstlight_host_ctl::vm::spec::NetworkSpec;
use firstlight_host_ctl::vm::{Store, VmId, VmSpec};
use firstlight_protocol::boot_spec::{Transport, VolumeMode};
use sd_notify::NotifyState;
use tokio::sync::oneshot;

use crate::cli::resolved::Context;
use crate::cli::value::duration;
use crate::command::run::{VmOptions, prefer_savable, resolve_spec};
use crate::interrupt::{Interrupt, Interrupts};
use crate::output::{self, Failure};

/// Serve a pool in the foreground
///
/// Keeps --min VMs ready ahead of demand, and makes up to --max while callers wait. A first signal drains the pool, a
/// second leaves its VMs as they are. After that, or a kill -9, serving it again takes them over: leases are kept, and
/// what is doubtful is destroyed. Takes the flags of run for what its VMs are made of; without --machine they are made as
/// with --snapshot, so that a VM given back is restored and not booted.
#[derive(Debug, Args)]
#[command(after_help = "Example: host-ctl pool serve web --min 5 --max 20 --rootfs debian.ext4")]
pub(crate) struct Serve {
    /// The pool's name; its VMs are called NAME-1, NAME-2 and so on
    pool: String,

    /// VMs kept ready ahead of demand
    #[arg(long, value_name = "N", default_value_t = 1)]
    min: usize,

    /// VMs in all, those being made, reset and destroyed included
    #[arg(long, value_name = "N", default_value_t = 4)]
    max: usize,

    /// VMs made, reset and destroyed at a time
    #[arg(long, value_name = "N", default_value_t = 2)]
    parallel: usize,

    /// Longest lease; a longer wish is cut to it
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "24h")]
    max_ttl: Duration,

    /// Replace a VM after so many holders; 0: never
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_uses: u32,

    /// Replace a VM before it is older than this
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "24h")]
    max_age: Duration,

    /// Destroy a VM beyond --min that nobody has needed for so long
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "5m")]
    max_idle: Duration,

    /// What VMs do that are ready and that nobody has
    #[arg(long, value_enum, default_value_t = Standby::Running)]
    standby: Standby,

    /// How long a VM may take to run
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "60s")]
    boot_timeout: Duration,

    /// How long holders may keep their VMs once a signal has come
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "30s")]
    drain_timeout: Duration,

    #[command(flatten)]
    vm: VmOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Standby {
    /// They run
    Running,
    /// They stand still, and take no processor time
    Paused,
}

impl From<Standby> for vms::Standby {
    fn from(standby: Standby) -> vms::Standby {
        match standby {
            Standby::Running => vms::Standby::Running,
            Standby::Paused => vms::Standby::Paused,
        }
    }
}

impl Serve {
    pub(crate) async fn run(mut self, context: &Context) -> Result<(), Failure> {
        prefer_savable(&mut self.vm);
        let place = PoolPlace::of(&context.state_dir, &self.pool)?;
        let bounds = self.bounds().validate().map_err(PoolError::from)?;
        let store = Store::open(&context.state_dir)?;
        self.rehearse(&store)?;
        let lock = place.take()?;
        let interrupts = Interrupts::listen()?;
        let setup = Setup {
            name: place.name(),
            directory: place.directory(),
            host_boot: &host_boot_id().map_err(|error| Failure::failed(format!("no boot id: {error}")))?,
            bounds,
            seed: seed()?,
            clock: Box::new(since_boot),
            news: Box::new(tell),
        };
        let (boot_timeout, drain_timeout) = (self.boot_timeout, self.drain_timeout);
        let standby = self.standby.into();
        let blueprint = blueprint(self.vm, store.clone());
        let (name, directory) = (place.name(), place.directory());
        let driver = VmDriver::new(store, name, directory, blueprint, standby, boot_timeout, Box::new(tell));
        let driver = driver.map_err(|error| Failure::failed(error.to_string()))?;
        let (service, pool) = Service::open(setup, driver)?;
        let listener = server::listen(&place.socket())?;
        notify(&NotifyState::Ready);
        let (over, ended) = oneshot::channel();
        let served = async {
            let result = attend(service, &pool, interrupts, drain_timeout).await;
            // The server may have ended first only by a panic.
            let _ = over.send(());
            result
        };
        let ended = async { drop(ended.await) };
        let (result, ()) = tokio::join!(served, server::serve(listener, place.name(), &pool, ended));
        // Drained: there is no VM and nothing to remember.
        if result? == End::Drained {
            place.remove(&lock)?;
        }
        Ok(())
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            min: self.min,
            max: self.max,
            parallel: self.parallel,
            max_ttl: self.max_ttl,
            max_uses: self.max_uses,
            max_age: self.max_age,
            max_idle: self.max_idle,
            ..Bounds::default()
        }
    }

    /// Resolves the flags once, so that a mistake is said now and not by every VM that fails.
    fn rehearse(&self, store: &Store) -> Result<(), Failure> {
        let (spec, _draft) = resolve_spec(&self.vm, Some(&format!("{}-rehearsal", self.pool)), store)?;
        refuse_shared(&spec, self.max)?;
        refuse_fragile(&spec, self.standby)
    }
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With no VM left.
    Drained,
    /// With the VMs as they are.
    Left,
}

/// Runs the pool until it is drained, or until the second signal.
async fn attend(
    service: Service<VmDriver>,
    pool: &Pool,
    mut interrupts: Interrupts,
    drain_timeout: Duration,
) -> Result<End, Failure> {
    let mut service = std::pin::pin!(service.run());
    loop {
        tokio::select! {
            result = &mut service => return Ok(result.map(|()| End::Drained)?),
            interrupt = interrupts.next() => match interrupt {
                Interrupt::First(_) => {
                    notify(&NotifyState::Stopping);
                    output::note("draining; a second signal leaves the VMs as they are");
                    let pool = pool.clone();
                    tokio::spawn(async move { pool.drain(Some(drain_timeout)).await });
                }
                Interrupt::Again => return Ok(End::Left),
            },
        }
    }
}

/// What the VMs of a pool cannot share, or cannot do without.
fn refuse_shared(spec: &VmSpec, max: usize) -> Result<(), Failure> {
    if let Some(volume) = spec.volumes.iter().find(|volume| volume.mode == VolumeMode::Rw) {
        return Err(Failure::usage(format!(
            "volume {}: all VMs of the pool would write to it",
            volume.image.display()
        ))
        .hint("mount it with :ro, or with :overlay to keep what is written in memory"));
    }
    if let NetworkSpec::Tap { interface, .. } = &spec.network
        && max > 1
    {
        return Err(Failure::usage(format!("tap device {interface} can be one VM's only"))
            .hint("use --net user or --net none, or --max 1"));
    }
    if spec.skip_guest_agent {
        return Err(Failure::usage("a VM without an agent cannot be proved clean")
            .hint("leave --skip-guest-agent out"));
    }
    Ok(())
}

/// A vsock backend may not survive that its guest stands still (decision 0024).
fn refuse_fragile(spec: &VmSpec, standby: Standby) -> Result<(), Failure> {
    let backend = spec.boot.transport == Transport::Vsock && !assets::has_kernel_vsock();
    match standby {
        Standby::Paused if backend => {
            Err(Failure::usage("--standby paused needs VMs that are not behind a vsock backend")
                .hint("use --transport serial"))
        }
        Standby::Paused | Standby::Running => Ok(()),
    }
}

fn blueprint(options: VmOptions, store: Store) -> Blueprint {
    Arc::new(move |name| {
        resolve_spec(&options, Some(name), &store).map_err(|failure| failure.message().to_owned())
    })
}

fn since_boot() -> Moment {
    Moment::from_nanos(Stamp::now().boot_ns)
}

/// Enough of a VM's random id to differ from the next pool's.
fn seed() -> Result<u64, Failure> {
    let id = VmId::random().map_err(|error| Failure::failed(format!("no random bytes: {error}")))?;
    Ok(u64::from_str_radix(&id.to_string(), 16).unwrap_or_default())
}

fn tell(news: News) {
    output::note(news);
}

/// A service manager that cannot be reached must not keep a pool from being served.
fn notify(state: &NotifyState<'_>) {
    let _ = sd_notify::notify(std::slice::from_ref(state));
}

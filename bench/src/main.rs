//! dev
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "dev")]
pub mod machine;
use firstlight_host_ctl::assets::{self, Environment, Wanted};
use firstlight_protocol::boot_spec::StageOrder;
use machine::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let n: usize = args[2].parse().unwrap();
    let cpus = args.get(3).map_or(1, |c| c.parse().unwrap());
    let volumes = args.get(4).map_or(1, |c| c.parse().unwrap());
    let look = if args[1] == "wall" { Look::Clock } else { Look::Instructions };
    let tools = tools::Tools::new(std::path::Path::new("/tmp/t-bench/bench/tools"));
    let bench = Bench::new(&tools);
    let mut assets = assets::find(&Wanted { builtin_root: true, ..Wanted::default() }, &Environment::of_process()).unwrap();
    if let Ok(k) = std::env::var("KERNEL") { assets.kernel = k.into(); }
    let disks = scene::Disks::make(&bench.program);
    let wanted = ["virtio_mmio", "virtio_blk", "overlay", "virtio_net", "vmw_vsock_virtio_transport"];
    let modules = tools::load_order(&assets.modules, &wanted);
    let t = serde_json::to_value(token()).unwrap();
    let config = format!("{{\"boot_id\":\"5a5a5a5a\",\"token\":{t},\"port\":1024,");
    let floor = tools.floor(&tools::FloorBoot { modules, volumes: (0..volumes).map(scene::Scene::target).collect(), network: true }, &config, "/program");
    let mut floored = assets.clone();
    floored.guest_init = floor;
    let b = |name: &str, a: &firstlight_host_ctl::vm::spec::Assets, stages| {
        let dir = tempfile::tempdir().unwrap();
        let s = scene::Scene { cpus, volumes, stages };
        let m = bench.boot(&s.spec(a, &disks, dir.path()), dir.path(), look, |_| ());
        println!("{name} kernel {:.1} boot {:.1} ms {} (at init {})", m.kernel_ms(), m.boot_ms(), m.boot_instructions(), m.init.instructions);
    };
    for _ in 0..n {
        b("floor ", &floored, StageOrder::Graph);
        b("graph ", &assets, StageOrder::Graph);
        b("serial", &assets, StageOrder::Serial);
    }
}

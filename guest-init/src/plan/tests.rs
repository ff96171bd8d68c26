use std::collections::BTreeSet;

use firstlight_protocol::boot_spec::{Disk, FileSystem};
use proptest::prelude::*;

use super::*;

const MMIO: Transports = Transports { mmio: true, pci: false };

fn spec(change: impl FnOnce(&mut serde_json::Value)) -> BootSpec {
    let mut document = serde_json::json!({
        "version": 1,
        "boot_id": "5f1c09ae",
        "mac_key": "00".repeat(32),
        "root": { "source": { "disk": { "serial": "root", "file_system": "erofs" } } },
        "program": { "argv": ["/bin/true"] },
        "agent": { "token": "11".repeat(32) },
    });
    change(&mut document);
    BootSpec::from_json(document.to_string().as_bytes()).unwrap()
}

fn manifest() -> ModuleManifest {
    let text = "virtio:\nvirtio_ring:\nvirtio_mmio: virtio virtio_ring\nvirtio_pci: virtio virtio_ring\n\
                virtio_blk: virtio virtio_ring\nvirtio_net: virtio virtio_ring\nerofs:\noverlay:\nsquashfs:\n\
                vmw_vsock_virtio_transport: virtio virtio_ring vsock\nvsock:\n";
    ModuleManifest::parse(text.into()).unwrap()
}

fn planned(change: impl FnOnce(&mut serde_json::Value)) -> Plan {
    plan(&spec(change), &manifest(), MMIO)
}

fn volume(serial: usize, target: &str) -> serde_json::Value {
    serde_json::json!({ "disk": { "serial": format!("vol{serial}"), "file_system": "ext4" }, "target": target })
}

impl Plan {
    #[track_caller]
    fn stage(&self, name: &str) -> &Stage {
        let found = self.stages.iter().find(|stage| stage.name == name);
        found.unwrap_or_else(|| panic!("no stage {name} in {:?}", self.names()))
    }

    fn names(&self) -> Vec<&str> {
        self.stages.iter().map(|stage| stage.name.as_str()).collect()
    }

    /// Everything that is done before the stage starts, directly or not.
    fn before(&self, name: &str) -> BTreeSet<&str> {
        let mut before = BTreeSet::new();
        let mut open: Vec<usize> = self.stage(name).needs.clone();
        while let Some(index) = open.pop() {
            if before.insert(self.stages[index].name.as_str()) {
                open.extend(&self.stages[index].needs);
            }
        }
        before
    }
}

#[test]
fn a_disk_root_with_network_and_agent_has_every_stage_and_the_barrier_last() {
    let plan = planned(|document| {
        document["network"] = serde_json::json!({ "interfaces": [{ "addresses": ["10.0.2.15/24"] }] });
    });
    assert_eq!(
        plan.names(),
        ["modules:block", "modules:vsock", "modules:net", "root", "network", "identity", "agent", "program"]
    );
    assert_eq!(plan.before("program").len(), 7);
    assert_eq!(plan.before("network"), BTreeSet::from(["modules:net"]));
    assert_eq!(plan.before("agent"), BTreeSet::from(["modules:block", "modules:vsock", "root"]));
}

#[test]
fn waiving_the_agent_takes_it_out_of_the_barrier_and_changes_nothing_else() {
    let with = planned(|_| {});
    let without = planned(|document| document["agent"] = serde_json::Value::Null);
    let names: Vec<&str> = with.names().into_iter().filter(|name| *name != "agent").collect();
    assert_eq!(without.names(), names);
}

#[test]
fn headers_come_after_the_program_and_nothing_comes_after_them() {
    let plan = planned(|document| document["headers"] = serde_json::json!({}));
    assert!(plan.before("headers").contains("program"));
    for stage in &plan.stages {
        assert!(!plan.before(&stage.name).contains("headers"), "{}", stage.name);
    }
}

#[test]
fn the_disk_of_the_headers_has_its_driver_and_the_program_does_not_wait_for_it() {
    let plan = planned(|document| {
        document["root"] = serde_json::json!({ "source": { "initramfs": "/firstlight/root" } });
        document["headers"] = serde_json::json!({});
    });
    let Work::LateModules(names) = &plan.stage("modules:late").work else { panic!() };
    assert!(names.iter().any(|name| name == "virtio_blk"), "{names:?}");
    assert!(plan.before("headers").contains("modules:late"));
    assert!(!plan.before("program").contains("modules:late"));
    // With another disk the driver is there already.
    assert!(
        !planned(|document| document["headers"] = serde_json::json!({})).names().contains(&"modules:late")
    );
}

#[test]
fn a_volume_over_etc_comes_before_identity_and_others_do_not() {
    for (target, before) in [("/etc", true), ("/etc/", true), ("//etc/./", true), ("/etcetera", false)] {
        let plan = planned(|document| document["volumes"] = serde_json::json!([volume(0, target)]));
        let name = format!("volume:{}", normal(target));
        assert_eq!(plan.before("identity").contains(name.as_str()), before, "{target}");
    }
}

#[test]
fn a_volume_in_a_volume_comes_after_it_whatever_the_order_in_the_spec() {
    let plan = planned(|document| {
        document["volumes"] = serde_json::json!([volume(0, "/a/b/c"), volume(1, "/ab"), volume(2, "/a")]);
    });
    assert!(plan.before("volume:/a/b/c").contains("volume:/a"));
    assert!(!plan.before("volume:/a/b/c").contains("volume:/ab"));
    assert!(!plan.before("volume:/ab").contains("volume:/a"));
}

#[test]
fn a_boot_from_built_in_drivers_has_no_module_stage() {
    let plan = plan(&spec(|_| {}), &ModuleManifest::default(), MMIO);
    assert_eq!(plan.names(), ["root", "network", "identity", "agent", "program"]);
}

#[test]
fn only_the_transports_of_the_machine_are_loaded_and_both_where_none_shows() {
    let loaded = |transports| {
        let plan = plan(&spec(|_| {}), &manifest(), transports);
        let Work::Modules { names, .. } = plan.stage("modules:block").work.clone() else { panic!() };
        ["virtio_mmio", "virtio_pci"].map(|driver| names.iter().any(|name| name == driver))
    };
    assert_eq!(loaded(Transports { mmio: true, pci: false }), [true, false]);
    assert_eq!(loaded(Transports { mmio: false, pci: true }), [false, true]);
    assert_eq!(loaded(Transports { mmio: false, pci: false }), [true, true]);
}

#[test]
fn an_initramfs_root_needs_no_disk_driver() {
    let plan = planned(|document| {
        document["root"] = serde_json::json!({ "source": { "initramfs": "/firstlight/root" } });
    });
    let work = Work::Modules { names: vec!["overlay".into()], vsock: false };
    assert_eq!(plan.stage("modules:block").work, work);
}

#[test]
fn an_overlay_root_is_made_of_the_disk_read_only_scratch_space_and_the_overlay() {
    let disk = Disk { serial: "root".into(), file_system: FileSystem::Erofs };
    let own = |what, path: &str, read_only| Mount { what, place: Place::Own(path.into()), read_only };
    let overlay =
        What::Overlay { lower: "/firstlight/mnt/lower".into(), scratch: "/firstlight/mnt/upper".into() };
    let expected = vec![
        own(What::Disk(disk), "/firstlight/mnt/lower", true),
        own(What::Scratch, "/firstlight/mnt/upper", false),
        own(overlay, NEW_ROOT, false),
    ];
    assert_eq!(planned(|_| {}).stage("root").work, Work::Root(expected));
}

#[test]
fn a_read_only_root_is_one_mount() {
    let plan = planned(|document| document["root"]["upper"] = "read-only".into());
    let Work::Root(mounts) = &plan.stage("root").work else { panic!() };
    assert_eq!(mounts.len(), 1);
    assert!(mounts[0].read_only);
}

#[test]
fn systemd_starts_the_agent_itself_and_takes_over_when_all_else_is_done() {
    let plan = planned(|document| document["program"]["mode"] = "systemd".into());
    assert!(!plan.names().contains(&"agent"));
    assert_eq!(plan.before("program").len(), plan.stages.len() - 1);
    assert!(plan.before("units").contains("root"));
}

#[test]
fn layers_that_systemd_cannot_reach_are_not_left_mounted() {
    let places = |mode: &str| {
        let plan = planned(|document| document["program"]["mode"] = mode.into());
        let Work::Root(mounts) = &plan.stage("root").work else { panic!("no mounts") };
        mounts.iter().filter(|mount| matches!(mount.place, Place::Passing(_))).count()
    };
    assert_eq!((places("exec"), places("systemd")), (0, 2));
}

proptest! {
    #[test]
    fn the_direct_needs_imply_all_of_them_and_none_implies_another(
        masks in proptest::collection::vec(any::<u32>(), 1..12),
    ) {
        let stage = |(index, mask): (usize, &u32)| Stage {
            name: index.to_string(),
            work: Work::Network,
            needs: (0..index).filter(|need| mask & (1 << need) != 0).collect(),
        };
        let full = Plan { stages: masks.iter().enumerate().map(stage).collect() };
        let mut reduced = full.clone();
        for (index, stage) in reduced.stages.iter_mut().enumerate() {
            stage.needs = full.direct_needs(index);
        }
        for stage in &full.stages {
            prop_assert_eq!(full.before(&stage.name), reduced.before(&stage.name));
            let direct = &reduced.stage(&stage.name).needs;
            for need in direct {
                let others = direct.iter().filter(|other| *other != need);
                let implies = |other: &usize| full.before(&other.to_string()).contains(need.to_string().as_str());
                prop_assert!(!others.into_iter().any(implies));
            }
        }
    }

    #[test]
    fn needs_always_stand_before_and_nested_targets_after_their_parents(
        targets in proptest::collection::btree_set("(/[ab]){1,4}", 0..8),
        seed in any::<u64>(),
    ) {
        // BTreeSet gives them sorted; the spec may have them in any order.
        let mut targets: Vec<String> = targets.into_iter().collect();
        targets.sort_by_key(|target| seed.wrapping_mul(target.len() as u64 + target.matches('a').count() as u64));
        let plan = planned(|document| {
            document["volumes"] = targets.iter().enumerate().map(|(i, target)| volume(i, target)).collect();
        });
        for (index, stage) in plan.stages.iter().enumerate() {
            prop_assert!(stage.needs.iter().all(|need| *need < index), "{:?}", plan.names());
        }
        for inner in &targets {
            for outer in targets.iter().filter(|outer| inner.starts_with(&format!("{outer}/"))) {
                let before = plan.before(&format!("volume:{inner}"));
                let outer = format!("volume:{outer}");
                prop_assert!(before.contains(outer.as_str()));
            }
        }
    }
}

#[test]
fn without_disks_and_network_no_stage_takes_time_and_with_them_those_do_that_use_them() {
    let taking_time = |spec: BootSpec| -> Vec<String> {
        let plan = plan(&spec, &ModuleManifest::default(), MMIO);
        let slow = plan.stages.into_iter().filter(|stage| stage.work.takes_time(&spec));
        slow.map(|stage| stage.name).collect()
    };
    let in_memory = |spec: &mut serde_json::Value| {
        spec["root"] = serde_json::json!({ "source": { "initramfs": "/firstlight/root" } });
    };
    assert_eq!(taking_time(spec(in_memory)), Vec::<String>::new());
    assert_eq!(taking_time(spec(|_| ())), ["root", "identity"]);
    let volume = taking_time(spec(|spec| {
        in_memory(spec);
        spec["volumes"] = serde_json::json!([volume(0, "/data")]);
    }));
    assert_eq!(volume, ["volume:/data", "identity"]);
    let network = taking_time(spec(|spec| {
        in_memory(spec);
        spec["network"] = serde_json::json!({ "interfaces": [{ "addresses": ["10.0.0.2/24"] }] });
    }));
    assert_eq!(network, ["network"]);
}

//! Specs that are refused, and that the rest survive text.

use super::*;

/// A spec as `run` makes it, for the tests of this crate.
pub(crate) fn spec(name: &str) -> VmSpec {
    let assets = Assets {
        kernel: "/k/vmlinuz".into(),
        modules: "/k/modules".into(),
        guest_init: "/g/guest-init".into(),
        guest_agent: "/g/guest-agent".into(),
        busybox: Some("/bin/busybox".into()),
        vmm: "/usr/bin/qemu-system-x86_64".into(),
        vsock_backend: Some("/t/vhost-device-vsock".into()),
        cache: "/c".into(),
    };
    let program = serde_json::from_str(r#"{"argv": ["sh"]}"#).unwrap();
    VmSpec::new(name, "0123456789ab".parse().unwrap(), assets, program)
}

fn refused(change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut document = serde_json::to_value(spec("web")).unwrap();
    change(&mut document);
    VmSpec::from_json(document.to_string().as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_spec_survives_text() {
    let mut spec = spec("web");
    spec.root = RootSpec::Image { path: "root.erofs".into(), file_system: FileSystem::Erofs };
    spec.volumes.push(VolumeSpec {
        image: "/data.img".into(),
        file_system: Some(FileSystem::Ext4),
        target: "/data".into(),
        mode: VolumeMode::Overlay,
        required: false,
    });
    spec.headers = Some(HeadersSpec { bundle: "/h.tar.gz".into(), mask_others: true });
    spec.network = NetworkSpec::Tap {
        interface: "tap0".into(),
        mac: "52:54:00:12:34:56".parse().unwrap(),
        addresses: vec!["192.168.7.2/24".parse().unwrap()],
        gateways: vec!["192.168.7.1".parse().unwrap()],
        dns: Dns::default(),
        mtu: Some(1400),
    };
    assert_eq!(VmSpec::from_json(spec.to_json().unwrap().as_bytes()).unwrap(), spec);
}

#[test]
fn an_unknown_field_is_named() {
    let error = refused(|spec| spec["assets"]["krenel"] = "x".into());
    assert!(error.contains("assets") && error.contains("krenel"), "{error}");
}

#[test]
fn a_newer_version_is_named_before_any_field_it_brings() {
    let error = refused(|spec| {
        spec["version"] = 2.into();
        spec["warp"] = 9.into();
    });
    assert!(error.contains("version 2") && error.contains("newer host-ctl"), "{error}");
}

#[test]
fn what_cannot_be_a_vm_is_refused_by_field() {
    for (field, value) in [("name", "../x".into()), ("cpus", 0.into()), ("memory_mib", 8.into())] {
        let error = refused(|spec| spec[field] = value);
        assert!(error.contains(field), "{error}");
    }
    let error = refused(|spec| spec["logs"]["max_files"] = 0.into());
    assert!(error.contains("logs.max_files"), "{error}");
}

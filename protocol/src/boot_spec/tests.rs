use super::*;

pub(super) fn minimal() -> serde_json::Value {
    serde_json::json!({
        "version": 1,
        "boot_id": "5f1c09ae",
        "mac_key": "00".repeat(32),
        "root": { "source": { "initramfs": "/firstlight/root" } },
        "program": { "argv": ["/bin/true"] },
    })
}

fn parse(document: &serde_json::Value) -> Result<BootSpec, BootSpecError> {
    BootSpec::from_json(document.to_string().as_bytes())
}

#[track_caller]
fn refused_field(document: &serde_json::Value) -> String {
    match parse(document) {
        Err(BootSpecError::Field { field, .. }) => field,
        other => panic!("expected a field error, got {other:?}"),
    }
}

#[test]
fn a_minimal_document_gets_the_documented_defaults() {
    let spec = parse(&minimal()).unwrap();
    assert!(spec.skip_guest_agent());
    assert_eq!(spec.root.upper, RootUpper::Tmpfs);
    assert_eq!(spec.boot, BootOptions::default());
    assert_eq!((spec.program.cwd.as_str(), spec.program.stop_signal), ("/", 15));
}

#[test]
fn a_program_made_in_code_has_the_defaults_of_a_document() {
    let spec = parse(&minimal()).unwrap();
    assert_eq!(Program::new(vec!["/bin/true".into()]), spec.program);
}

#[test]
fn what_goes_without_saying_is_not_written() {
    let mut document = minimal();
    document["volumes"] =
        serde_json::json!([{ "disk": { "serial": "vol0", "file_system": "ext4" }, "target": "/data" }]);
    let mut said = document.clone();
    said["network"] = serde_json::json!({ "dns": {} });
    said["boot"] = serde_json::json!({ "stages": "graph", "event_stream": true });
    said["root"]["upper"] = "tmpfs".into();
    said["program"]["mode"] = "exec".into();
    said["program"]["no_new_privileges"] = false.into();
    said["volumes"][0]["mode"] = "rw".into();
    said["volumes"][0]["required"] = true.into();
    let spec = parse(&said).unwrap();
    assert_eq!(spec, parse(&document).unwrap());
    let mut written: serde_json::Value = serde_json::from_str(&spec.to_json()).unwrap();
    for with_a_default_of_its_own in ["cwd", "stop_signal", "stop_grace_ms"] {
        assert!(written["program"].as_object_mut().unwrap().remove(with_a_default_of_its_own).is_some());
    }
    assert_eq!(written, document);
}

#[test]
fn a_full_document_survives_json() {
    let mut document = minimal();
    document["hostname"] = "first-light".into();
    document["root"] = serde_json::json!({
        "source": { "disk": { "serial": "root", "file_system": "erofs" } },
        "upper": { "disk": { "serial": "upper", "file_system": "ext4" } },
    });
    document["volumes"] = serde_json::json!([
        { "disk": { "serial": "vol0", "file_system": "ext4" }, "target": "/data", "mode": "ro", "required": false },
    ]);
    document["network"] = serde_json::json!({
        "interfaces": [{
            "mac": "52:54:00:12:34:56", "addresses": ["10.0.2.15/24", "fec0::15/64"],
            "gateways": ["10.0.2.2", "fec0::2"], "mtu": 1400,
        }],
        "dns": { "servers": ["10.0.2.3"], "search": ["example"] },
    });
    document["agent"] = serde_json::json!({ "token": "11".repeat(32) });
    document["program"]["rlimits"] =
        serde_json::json!([{ "resource": "nofile", "soft": 1024, "hard": null }]);
    document["headers"] = serde_json::json!({ "serial": "headers", "mask_others": true });
    document["boot"] = serde_json::json!({ "stages": "serial", "on_fatal": "shell" });
    let spec = parse(&document).unwrap();
    assert_eq!(BootSpec::from_json(spec.to_json().as_bytes()), Ok(spec));
}

#[test]
fn an_unknown_field_is_named_with_its_path() {
    let mut document = minimal();
    document["program"]["shell"] = true.into();
    let error = parse(&document).unwrap_err().to_string();
    assert!(error.contains("`program"), "{error}");
    assert!(error.contains("shell"), "{error}");
}

#[test]
fn a_newer_version_is_named_even_when_it_brings_new_fields() {
    let mut document = minimal();
    document["version"] = 2.into();
    document["novelty"] = true.into();
    assert_eq!(parse(&document), Err(BootSpecError::Version { found: 2 }));
    assert!(parse(&document).unwrap_err().to_string().contains("newer guest-init"));
}

#[test]
fn a_field_of_the_wrong_kind_is_named_with_its_path() {
    let mut document = minimal();
    document["volumes"] =
        serde_json::json!([{ "disk": { "serial": "v", "file_system": "ext9" }, "target": "/v" }]);
    assert_eq!(refused_field(&document), "volumes[0].disk.file_system");
}

#[test]
fn what_types_cannot_say_is_refused_by_name() {
    let cases: [(&str, serde_json::Value, &str); 9] = [
        ("/hostname", "-x".into(), "hostname"),
        ("/program/argv", serde_json::json!([]), "program.argv"),
        ("/program/argv", serde_json::json!(["a", "b\0"]), "program.argv[1]"),
        ("/program/cwd", "tmp".into(), "program.cwd"),
        ("/program/cwd", "/a/../b".into(), "program.cwd"),
        ("/program/stop_signal", 65.into(), "program.stop_signal"),
        ("/headers", serde_json::json!({ "serial": "" }), "headers.serial"),
        ("/boot", serde_json::json!({ "modules": ["../x"] }), "boot.modules[0]"),
        (
            "/volumes",
            serde_json::json!([{ "disk": { "serial": "v", "file_system": "ext4" }, "target": "/" }]),
            "volumes[0].target",
        ),
    ];
    for (place, value, field) in cases {
        let mut document = minimal();
        let (parent, key) = place.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[key] = value;
        assert_eq!(refused_field(&document), field);
    }
}

#[test]
fn text_that_is_no_json_is_refused() {
    assert!(matches!(BootSpec::from_json(b"{"), Err(BootSpecError::Field { .. })));
    assert!(matches!(
        BootSpec::from_json(&vec![b' '; MAX_SPEC_BYTES + 1]),
        Err(BootSpecError::TooLarge { .. })
    ));
}

#[test]
fn trailing_text_is_refused() {
    let text = format!("{} x", minimal());
    assert!(matches!(BootSpec::from_json(text.as_bytes()), Err(BootSpecError::Field { .. })));
}

#[test]
fn file_systems_are_known_by_their_magic() {
    let mut start = vec![0; FileSystem::DETECT_LEN];
    assert_eq!(FileSystem::detect(&start), None);
    start[1080..1082].copy_from_slice(&[0x53, 0xef]);
    assert_eq!(FileSystem::detect(&start), Some(FileSystem::Ext4));
    assert_eq!(FileSystem::detect(b"hsqs"), Some(FileSystem::Squashfs));
    assert_eq!(FileSystem::detect(b""), None);
}

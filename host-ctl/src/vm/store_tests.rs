//! Names, races and removals.

use super::*;
use crate::vm::spec::tests::spec;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state")).unwrap();
    (dir, store)
}

fn names(store: &Store) -> Vec<String> {
    store.list().unwrap().iter().map(|vm| vm.spec().name.clone()).collect()
}

#[test]
fn a_vm_is_found_by_its_name_and_by_a_unique_beginning_of_its_id() {
    let (_dir, store) = store();
    let mut second = spec("second");
    second.id = "0123ff000000".parse().unwrap();
    store.create(&spec("first")).unwrap();
    store.create(&second).unwrap();
    assert_eq!(names(&store), ["first", "second"]);
    assert_eq!(store.resolve("first").unwrap().spec().name, "first");
    assert_eq!(store.resolve("0123f").unwrap().spec().name, "second");
    assert!(matches!(store.resolve("0123"), Err(StoreError::Ambiguous { names, .. }) if names.len() == 2));
    assert!(matches!(store.resolve("third"), Err(StoreError::NotFound { .. })));
    assert!(matches!(store.resolve(""), Err(StoreError::NotFound { .. })));
}

#[test]
fn of_many_who_want_a_name_at_once_one_gets_it() {
    let (_dir, store) = store();
    let barrier = std::sync::Barrier::new(16);
    let made = std::thread::scope(|scope| {
        let (store, barrier) = (&store, &barrier);
        let tries: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(move || {
                    let draft = store.draft("wanted").unwrap();
                    barrier.wait();
                    draft.commit(&spec("wanted"))
                })
            })
            .collect();
        tries
            .into_iter()
            .map(|try_it| try_it.join().unwrap())
            .filter(|result| match result {
                Ok(_) => true,
                Err(StoreError::NameTaken { .. }) => false,
                Err(error) => panic!("{error}"),
            })
            .count()
    });
    assert_eq!(made, 1);
    assert_eq!(names(&store), ["wanted"]);
    let left = fs::read_dir(store.vms()).unwrap().count();
    assert_eq!(left, 1, "drafts were left behind");
}

#[test]
fn a_draft_is_never_listed_and_one_left_behind_is_swept_up() {
    let (_dir, store) = store();
    let draft = store.draft("a").unwrap();
    let abandoned = store.vms().join(".b.000000000000");
    fs::create_dir(&abandoned).unwrap();
    fs::write(abandoned.join(name::MONITOR_LOCK), "").unwrap();
    assert_eq!(names(&store), Vec::<String>::new());
    let _other = store.draft("c").unwrap();
    assert!(!abandoned.exists());
    assert!(draft.path().exists(), "a draft in use was swept up");
}

#[test]
fn a_directory_without_a_spec_does_not_take_a_name() {
    let (_dir, store) = store();
    fs::create_dir(store.vms().join("web")).unwrap();
    assert_eq!(names(&store), Vec::<String>::new());
    store.create(&spec("web")).unwrap();
}

#[test]
fn a_vm_with_a_monitor_is_not_removed() {
    let (_dir, store) = store();
    let vm = store.create(&spec("web")).unwrap();
    let monitor = Lock::try_take(&vm.file(name::MONITOR_LOCK)).unwrap();
    assert!(matches!(store.remove(&vm), Err(StoreError::InUse { .. })));
    drop(monitor);
    store.remove(&vm).unwrap();
    assert!(matches!(store.remove(&vm), Err(StoreError::NotFound { .. })));
    assert_eq!(fs::read_dir(store.vms()).unwrap().count(), 0);
}

#[test]
fn a_vm_whose_vmm_runs_without_a_monitor_is_not_removed() {
    let (_dir, store) = store();
    let vm = store.create(&spec("web")).unwrap();
    let (mut journal, _) = Journal::open(&vm.file(name::JOURNAL)).unwrap();
    let boot_id = firstlight_protocol::hex::BootId([1; 4]);
    let host_boot = crate::clock::host_boot_id().unwrap();
    // Any live process will do as its VMM: this one.
    let process = crate::vm::ProcessId::of(std::process::id()).unwrap().unwrap();
    let started = Record::now(Entry::BootStarted { boot_id, host_boot });
    journal.append(&[started, Record::now(Entry::VmmStarted { process, vsock: None })]).unwrap();
    assert!(matches!(store.remove(&vm), Err(StoreError::InUse { .. })));
    journal.append(&[Record::now(Entry::VmmExited { status: "exit code 0".into() })]).unwrap();
    store.remove(&vm).unwrap();
}

#[test]
fn many_who_remove_and_make_the_same_vm_leave_one_or_none_and_nothing_else() {
    let (_dir, store) = store();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    match store.create(&spec("web")) {
                        Ok(vm) => drop(store.remove(&vm)),
                        Err(StoreError::NameTaken { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    hidden_dir::sweep(&store.vms(), name::MONITOR_LOCK);
    let left = fs::read_dir(store.vms()).unwrap().flatten();
    assert!(left.into_iter().all(|entry| entry.file_name() == "web"));
}

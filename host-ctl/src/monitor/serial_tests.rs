//! The console, from a FIFO into rotated files and back.

use firstlight_protocol::hex::{BootId, Secret};
use firstlight_protocol::sentinel::{Event, MacKey};
use std::io::Write as _;

use super::*;

const BOOT: BootId = BootId([1; 4]);

fn identity() -> Identity {
    Identity { boot: BOOT, key: MacKey::new(&Secret([7; 32])), before: None }
}

fn line(boot: BootId, seq: u64) -> String {
    Sentinel { boot, seq, t: seq, event: Event::InitStart }.render(&identity().key)
}

struct Lab {
    dir: tempfile::TempDir,
    limits: LogLimits,
}

impl Lab {
    fn new(max_size: u64) -> Lab {
        Lab { dir: tempfile::tempdir().unwrap(), limits: LogLimits { max_size, max_files: 50 } }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("serial.log")
    }

    fn open(&self) -> Serial {
        Serial::open(&self.path(), self.limits, identity(), None).unwrap()
    }

    fn text(&self) -> Vec<u8> {
        rotate::files(&self.path(), 50).iter().flat_map(|file| std::fs::read(file).unwrap()).collect()
    }
}

/// Sends `bytes` through a pipe; gives the sentinels heard and the number of rotations.
fn pump(serial: &mut Serial, bytes: &[u8]) -> (Vec<u64>, u32) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::NONBLOCK).unwrap();
    writer.write_all(bytes).unwrap();
    let (mut heard, mut rotations) = (Vec::new(), 0);
    while let Some((said, rotated)) = serial.pump(reader.as_fd()).unwrap() {
        heard.extend(said.sentinels.iter().map(|sentinel| sentinel.seq));
        rotations += u32::from(rotated);
    }
    (heard, rotations)
}

#[test]
fn every_byte_is_logged_and_every_sentinel_heard_across_rotations() {
    let lab = Lab::new(100);
    let mut stream = String::new();
    for seq in 1..=20 {
        stream.push_str(&"noise ".repeat(usize::try_from(seq).unwrap()));
        stream.push_str(&line(BOOT, seq));
    }
    let (heard, rotations) = pump(&mut lab.open(), stream.as_bytes());
    assert_eq!(heard, (1..=20).collect::<Vec<u64>>());
    assert_eq!(lab.text(), stream.as_bytes());
    assert!(rotations > 10);
    assert!(rotate::files(&lab.path(), 50).iter().all(|file| std::fs::metadata(file).unwrap().len() <= 100));
}

#[test]
fn a_new_monitor_hears_from_the_rotated_files_what_the_old_one_wrote() {
    let lab = Lab::new(100);
    let stream: String = (1..=9).map(|seq| line(BOOT, seq)).collect();
    // The first monitor is killed in the middle of a sentinel.
    let cut = stream.len() - 10;
    let (_, rotations) = pump(&mut lab.open(), &stream.as_bytes()[..cut]);
    let mut serial = lab.open();
    let recovered: Vec<u64> = serial.recover(rotations).unwrap().sentinels.iter().map(|s| s.seq).collect();
    assert_eq!(recovered, (1..=8).collect::<Vec<u64>>());
    assert_eq!(pump(&mut serial, &stream.as_bytes()[cut..]).0, [9]);
    assert_eq!(lab.text(), stream.as_bytes());
}

#[test]
fn sentinels_of_an_earlier_boot_are_not_heard() {
    let lab = Lab::new(1 << 20);
    let stream = line(BootId([9; 4]), 1) + &line(BOOT, 1);
    assert_eq!(pump(&mut lab.open(), stream.as_bytes()).0, [1]);
}

#[test]
fn a_disk_that_takes_nothing_loses_bytes_but_no_event_and_says_how_many() {
    let lab = Lab::new(1 << 20);
    let mut serial = lab.open();
    // Refuses every write with ENOSPC, as a full disk does.
    let full = File::options().read(true).write(true).open("/dev/full").unwrap();
    let good = std::mem::replace(&mut serial.log.file, full);
    assert_eq!(pump(&mut serial, line(BOOT, 1).as_bytes()).0, [1]);
    serial.log.file = good;
    // Still by hand, as long as the loss has to be noted.
    assert_eq!(pump(&mut serial, line(BOOT, 2).as_bytes()).0, [2]);
    let text = String::from_utf8(lab.text()).unwrap();
    assert!(text.contains(&format!("{} bytes were lost here", line(BOOT, 1).len())), "{text}");
    assert!(text.ends_with(&line(BOOT, 2)));
}

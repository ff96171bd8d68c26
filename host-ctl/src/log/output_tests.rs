//! Output that is written, rotated, and gone on with after a kill.

use super::*;
use crate::log::Reader;
use crate::log::cri::Entry;

struct Lab {
    dir: tempfile::TempDir,
    limits: LogLimits,
}

impl Lab {
    fn new(max_size: u64, max_files: u32) -> Lab {
        Lab { dir: tempfile::tempdir().unwrap(), limits: LogLimits { max_size, max_files } }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("output.log")
    }

    fn open(&self) -> OutputLog {
        OutputLog::open(&self.path(), &self.dir.path().join("position"), self.limits).unwrap()
    }

    /// What the log holds of standard output, with `{n}` for a gap of n bytes.
    fn stdout(&self) -> String {
        let mut reader = Reader::open(&self.path(), self.limits.max_files);
        let (mut line, mut text) = (Vec::new(), String::new());
        while reader.next_line(&mut line).unwrap() {
            match crate::log::cri::parse(&line).unwrap().entry {
                Entry::Output { stream: Stream::Stdout, text: bytes, ends } => {
                    text.push_str(std::str::from_utf8(bytes).unwrap());
                    text.extend(ends.then_some('\n'));
                }
                Entry::Gap { stream: Stream::Stdout, bytes } => text.push_str(&format!("{{{bytes}}}")),
                Entry::Output { .. } | Entry::Gap { .. } => {}
            }
        }
        text
    }
}

#[test]
fn what_is_written_already_is_skipped_and_what_was_lost_is_noted() {
    let lab = Lab::new(1 << 20, 2);
    let mut log = lab.open();
    log.append(0, Stream::Stdout, 0, b"hello\nwor").unwrap();
    log.append(0, Stream::Stdout, 6, b"world\n").unwrap();
    log.append(0, Stream::Stderr, 0, b"oops\n").unwrap();
    log.append(0, Stream::Stdout, 100, b"late").unwrap();
    assert_eq!(lab.stdout(), "hello\nworld\n{88}late");
    assert_eq!(log.position().of(Stream::Stdout), 104);
    assert_eq!(log.position().of(Stream::Stderr), 5);
}

#[test]
fn files_stay_within_their_size_and_nothing_is_lost_while_they_last() {
    let lab = Lab::new(512, 100);
    let mut log = lab.open();
    let text: String = (0..200).map(|line| format!("line {line}\n")).collect();
    let mut sequence = 0;
    for chunk in text.as_bytes().chunks(77) {
        log.append(0, Stream::Stdout, sequence, chunk).unwrap();
        sequence += chunk.len() as u64;
    }
    let files = rotate::files(&lab.path(), 100);
    assert!(files.len() > 10);
    assert!(files.iter().all(|file| std::fs::metadata(file).unwrap().len() <= 512));
    assert_eq!(lab.stdout(), text);
}

#[test]
fn a_monitor_killed_after_any_byte_of_the_log_goes_on_without_losing_or_doubling_one() {
    let text = b"one\ntwo\nthree\nfour\n";
    let finished = Lab::new(1 << 20, 10);
    finished.open().append(0, Stream::Stdout, 0, text).unwrap();
    let whole = std::fs::read(finished.path()).unwrap();
    for cut in 0..=whole.len() {
        let lab = Lab::new(90, 10);
        // The position is that of the opened log: as far behind as can be.
        let position = *lab.open().position();
        assert_eq!(position.of(Stream::Stdout), 0);
        std::fs::write(lab.path(), &whole[..cut]).unwrap();
        let mut log = lab.open();
        let known = usize::try_from(log.position().of(Stream::Stdout)).unwrap();
        log.append(0, Stream::Stdout, known as u64, &text[known..]).unwrap();
        assert_eq!(lab.stdout().as_bytes(), finished.stdout().as_bytes(), "killed after {cut}");
    }
}

#[test]
fn a_monitor_killed_in_a_rotation_knows_where_it_was() {
    let lab = Lab::new(80, 10);
    let mut log = lab.open();
    log.append(0, Stream::Stdout, 0, b"before\n").unwrap();
    drop(log);
    rotate::rotate(&lab.path(), 10).unwrap();
    let mut log = lab.open();
    assert_eq!(log.position().of(Stream::Stdout), 7);
    log.append(0, Stream::Stdout, 0, b"before\nafter\n").unwrap();
    assert_eq!(lab.stdout(), "before\nafter\n");
}

#[test]
fn a_new_boot_counts_from_zero_behind_what_earlier_ones_wrote() {
    let lab = Lab::new(1 << 20, 2);
    lab.open().append(0, Stream::Stdout, 0, b"first boot\n").unwrap();
    std::fs::remove_file(lab.dir.path().join("position")).unwrap();
    let mut log = lab.open();
    log.append(0, Stream::Stdout, 0, b"second boot\n").unwrap();
    assert_eq!(lab.stdout(), "first boot\nsecond boot\n");
}

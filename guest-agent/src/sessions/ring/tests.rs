use proptest::prelude::*;

use super::*;

fn write(ring: &mut Ring, stream: Stream, expendable: u64, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        let room = |free: &mut [u8]| {
            let count = free.len().min(bytes.len() - written);
            free[..count].copy_from_slice(&bytes[written..written + count]);
            Ok::<usize, ()>(count)
        };
        match ring.fill(stream, expendable, room) {
            Ok(Some(count)) => written += count,
            Ok(None) | Err(()) => break,
        }
    }
    written
}

/// All that is kept, byte by byte with its stream.
fn kept(ring: &Ring, most: usize) -> Vec<(Stream, u8)> {
    let mut all = Vec::new();
    let mut sequence = ring.oldest();
    while let Some((stream, bytes)) = ring.read(sequence, most) {
        all.extend(bytes.iter().map(|byte| (stream, *byte)));
        sequence += bytes.len() as u64;
    }
    all
}

#[test]
fn a_ring_takes_no_memory_before_the_first_byte_and_none_after_it_was_cleared() {
    let budget = Budget::new(MAX_BYTES);
    let mut ring = Ring::new(budget.clone());
    assert!(ring.storage.capacity() == 0 && ring.has_room(0));
    assert_eq!(write(&mut ring, Stream::Stdout, 0, &[7; 3 * FLOOR]), 3 * FLOOR);
    assert_eq!(budget.left(), MAX_BYTES - 3 * FLOOR);
    ring.clear();
    assert_eq!((ring.storage.capacity(), ring.oldest(), budget.left()), (0, 3 * FLOOR as u64, MAX_BYTES));
}

#[test]
fn without_budget_the_floor_is_left() {
    let mut ring = Ring::new(Budget::new(0));
    assert_eq!(write(&mut ring, Stream::Stdout, 0, &[7; 2 * FLOOR]), FLOOR);
    assert!(!ring.has_room(0));
    assert!(ring.has_room(1));
}

#[test]
fn streams_that_alternate_for_ever_are_bounded_too() {
    let mut ring = Ring::new(Budget::new(MAX_BYTES));
    for _ in 0..10 * MAX_RUNS {
        assert_eq!(write(&mut ring, Stream::Stdout, u64::MAX, b"o"), 1);
        assert_eq!(write(&mut ring, Stream::Stderr, u64::MAX, b"e"), 1);
    }
    assert!(ring.runs.len() <= MAX_RUNS);
    let newest = kept(&ring, MAX_BYTES);
    assert_eq!(newest[newest.len() - 2..], [(Stream::Stdout, b'o'), (Stream::Stderr, b'e')]);
    for _ in 0..2 * MAX_RUNS {
        write(&mut ring, Stream::Stdout, 0, b"o");
        write(&mut ring, Stream::Stderr, 0, b"e");
    }
    assert!(ring.runs.len() <= MAX_RUNS && !ring.has_room(0));
}

proptest! {
    #[test]
    fn what_is_kept_is_the_end_of_what_was_written(
        steps in proptest::collection::vec((any::<bool>(), 1..FLOOR, 0..3_u64 * FLOOR as u64), 0..60),
        budget in 0..2 * MAX_BYTES,
        most in 1..FLOOR,
    ) {
        let mut ring = Ring::new(Budget::new(budget));
        let mut all = Vec::new();
        let mut expendable: u64 = 0;
        for (step, (is_stdout, length, forgets)) in steps.into_iter().enumerate() {
            let stream = if is_stdout { Stream::Stdout } else { Stream::Stderr };
            let byte = step.to_le_bytes()[0];
            expendable = (expendable + forgets).min(ring.end());
            let had_room = ring.has_room(expendable);
            let written = write(&mut ring, stream, expendable, &vec![byte; length]);
            prop_assert_eq!(written > 0, had_room);
            all.extend(std::iter::repeat_n((stream, byte), written));
            prop_assert!(ring.oldest() <= expendable);
            prop_assert!(ring.storage.len() <= MAX_BYTES);
        }
        let oldest = usize::try_from(ring.oldest()).unwrap();
        prop_assert_eq!(ring.end(), all.len() as u64);
        prop_assert_eq!(kept(&ring, most), all[oldest..].to_vec());
    }
}

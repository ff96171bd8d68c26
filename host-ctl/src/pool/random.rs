//! Numbers that look random and come out the same for the same seed.

/// A sequence of numbers. Source: G. L. Steele and others, "Fast splittable pseudorandom number generators" (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound - 1`; 0 for a bound of 0.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        // The upper half of a product of two 32-bit numbers is below either.
        let product = (self.next() >> 32) * u64::from(bound);
        u32::try_from(product >> 32).unwrap_or(0)
    }

    /// Whether something happens that happens so many times in a thousand.
    pub(super) fn happens(&mut self, per_thousand: u32) -> bool {
        self.below(1_000) < per_thousand
    }

    /// A number above 0 and up to 1.
    pub(super) fn fraction(&mut self) -> f64 {
        f64::from(self.below(u32::MAX) + 1) / f64::from(u32::MAX)
    }
}

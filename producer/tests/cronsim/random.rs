//! Expressions at random, the same ones each time.

/// SplitMix64: small, and good enough to choose fields with.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let high = (mixed ^ (mixed >> 31)) >> 32;
        u32::try_from((high * u64::from(bound)) >> 32).unwrap()
    }

    fn within(&mut self, lowest: u32, highest: u32) -> u32 {
        lowest + self.below(highest - lowest + 1)
    }

    /// Two different numbers, the lower first.
    fn range(&mut self, lowest: u32, highest: u32) -> (u32, u32) {
        let from = self.within(lowest, highest - 1);
        (from, self.within(from + 1, highest))
    }

    /// Five fields. Hours about the leaps of the clock come up more often than others.
    pub(crate) fn expression(&mut self) -> String {
        let minute = self.field(0, 59, &[]);
        let hour = if self.below(2) == 0 { self.field(0, 4, &[]) } else { self.field(0, 23, &[]) };
        let day = if self.below(2) == 0 { "*".to_owned() } else { self.field(1, 31, &[]) };
        let month = if self.below(3) > 0 { "*".to_owned() } else { self.field(1, 12, &MONTHS) };
        let weekday = if self.below(2) == 0 { "*".to_owned() } else { self.field(0, 7, &WEEKDAYS) };
        [minute, hour, day, month, weekday].join(" ")
    }

    fn field(&mut self, lowest: u32, highest: u32, names: &[&str]) -> String {
        let parts = if self.below(4) == 0 { 2 } else { 1 };
        (0..parts).map(|_| self.part(lowest, highest, names)).collect::<Vec<_>>().join(",")
    }

    fn part(&mut self, lowest: u32, highest: u32, names: &[&str]) -> String {
        match self.below(10) {
            0 | 1 => "*".to_owned(),
            // Now and then a step beyond the field, which leaves its first value.
            2 | 3 => format!("*/{}", self.within(1, highest + 5)),
            4..7 => self.value(lowest, highest, names),
            7 | 8 => {
                let (from, to) = self.range(lowest, highest);
                format!("{from}-{to}")
            }
            _ => {
                let (from, to) = self.range(lowest, highest);
                format!("{from}-{to}/{}", self.within(1, highest))
            }
        }
    }

    fn value(&mut self, lowest: u32, highest: u32, names: &[&str]) -> String {
        let value = self.within(lowest, highest);
        let name = usize::try_from(value - lowest).ok().and_then(|at| names.get(at));
        match name {
            Some(name) if self.below(2) == 0 => (*name).to_owned(),
            _ => value.to_string(),
        }
    }
}

const MONTHS: [&str; 12] = ["jan", "FEB", "mar", "apr", "May", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "Mon", "tue", "WED", "thu", "fri", "sat"];

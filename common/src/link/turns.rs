//! What waits for the runners of a pool, by the queue that it came from, and whose turn it is.

use std::collections::VecDeque;

/// How a source takes part in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its part of the turns while others wait as well. At least 1.
    pub weight: u32,
    /// How many of its items may be with runners at once.
    pub at_once: usize,
}

impl Default for Share {
    /// Weight 1, as many at once as there are runners.
    fn default() -> Self {
        Self { weight: 1, at_once: usize::MAX }
    }
}

/// Items of several sources, taken in turns by weight: of sources with weights 3 and 1 that both have items,
/// three of the first go for one of the second, and they are spread out (smooth weighted round robin, as nginx
/// spreads requests). A source that has none does not hold up the others.
#[derive(Debug)]
pub(super) struct Turns<T> {
    sources: Vec<Source<T>>,
}

#[derive(Debug)]
struct Source<T> {
    items: VecDeque<T>,
    share: Share,
    /// What it is owed: the one that is owed most has its turn.
    credit: i64,
    running: usize,
}

impl<T> Source<T> {
    fn takeable(&self) -> usize {
        self.items.len().min(self.share.at_once.saturating_sub(self.running))
    }
}

impl<T> Turns<T> {
    pub(super) fn new() -> Self {
        Self { sources: Vec::new() }
    }

    /// Adds a source; its number is the one that the other functions take.
    pub(super) fn add(&mut self, share: Share) -> usize {
        let share = Share { weight: share.weight.max(1), at_once: share.at_once.max(1) };
        self.sources.push(Source { items: VecDeque::new(), share, credit: 0, running: 0 });
        self.sources.len() - 1
    }

    pub(super) fn put(&mut self, source: usize, item: T) -> Result<(), T> {
        match self.sources.get_mut(source) {
            Some(source) => {
                source.items.push_back(item);
                Ok(())
            }
            None => Err(item),
        }
    }

    /// How many items runners could take now.
    pub(super) fn takeable(&self) -> usize {
        match self.sources.as_slice() {
            [only] => only.takeable(),
            many => many.iter().map(Source::takeable).sum(),
        }
    }

    /// The next item and its source.
    pub(super) fn take(&mut self) -> Option<(usize, T)> {
        let turn = if self.sources.len() == 1 { 0 } else { self.whose_turn()? };
        let source = self.sources.get_mut(turn).filter(|source| source.takeable() > 0)?;
        let item = source.items.pop_front()?;
        source.running += 1;
        Some((turn, item))
    }

    fn whose_turn(&mut self) -> Option<usize> {
        let mut whole = 0;
        let mut best = None;
        for (number, source) in self.sources.iter_mut().enumerate().filter(|(_, source)| source.takeable() > 0) {
            whole += i64::from(source.share.weight);
            source.credit += i64::from(source.share.weight);
            if best.is_none_or(|(_, credit)| source.credit > credit) {
                best = Some((number, source.credit));
            }
        }
        let (turn, _) = best?;
        self.sources[turn].credit -= whole;
        Some(turn)
    }

    /// A runner is done with an item of this source.
    pub(super) fn finished(&mut self, source: usize) {
        if let Some(source) = self.sources.get_mut(source) {
            source.running = source.running.saturating_sub(1);
        }
    }

    /// Takes out what nobody has taken from one source.
    pub(super) fn clear(&mut self, source: usize) -> Vec<T> {
        self.sources.get_mut(source).map(|source| std::mem::take(&mut source.items).into()).unwrap_or_default()
    }

    /// Takes out what nobody has taken.
    pub(super) fn clear_all(&mut self) -> Vec<T> {
        self.sources.iter_mut().flat_map(|source| std::mem::take(&mut source.items)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(shares: &[(u32, usize)], items: usize) -> Turns<usize> {
        let mut turns = Turns::new();
        for (weight, at_once) in shares {
            let source = turns.add(Share { weight: *weight, at_once: *at_once });
            (0..items).for_each(|item| turns.put(source, item).unwrap());
        }
        turns
    }

    fn taken(turns: &mut Turns<usize>, count: usize) -> Vec<usize> {
        (0..count).filter_map(|_| turns.take()).map(|(source, _)| source).collect()
    }

    #[test]
    fn turns_go_by_weight_and_are_spread_out() {
        let mut turns = filled(&[(5, usize::MAX), (1, usize::MAX), (1, usize::MAX)], 100);
        assert_eq!(taken(&mut turns, 7), [0, 0, 1, 0, 2, 0, 0]);
        let many = taken(&mut turns, 70);
        assert_eq!([0, 1, 2].map(|source| many.iter().filter(|turn| **turn == source).count()), [50, 10, 10]);
    }

    #[test]
    fn an_empty_source_holds_nobody_up_and_saves_no_turns() {
        let mut turns = filled(&[(9, usize::MAX)], 0);
        let low = turns.add(Share::default());
        (0..50).for_each(|item| turns.put(low, item).unwrap());
        assert_eq!(taken(&mut turns, 20), [low; 20]);
        (0..50).for_each(|item| turns.put(0, item).unwrap());
        let both = taken(&mut turns, 20);
        assert_eq!(both.iter().filter(|turn| **turn == 0).count(), 18);
    }

    #[test]
    fn a_source_that_runs_one_at_a_time_waits_for_it() {
        let mut turns = filled(&[(1, 1), (1, 1)], 2);
        assert_eq!((turns.takeable(), taken(&mut turns, 4)), (2, vec![0, 1]));
        assert_eq!(turns.takeable(), 0);
        turns.finished(1);
        assert_eq!(taken(&mut turns, 4), [1]);
    }

    #[test]
    fn what_is_taken_out_is_gone() {
        let mut turns = filled(&[(1, 1), (1, 1)], 2);
        assert_eq!(turns.clear(0), [0, 1]);
        assert_eq!(turns.clear_all(), [0, 1]);
        assert!(turns.take().is_none());
        assert_eq!(turns.put(7, 1), Err(1));
    }
}

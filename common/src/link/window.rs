//! The deliveries of one channel between their arrival and the moment the broker is told what became of them.

use std::collections::VecDeque;

use lapin::types::DeliveryTag;

/// Finished deliveries that are acknowledged together. Larger batches are no faster, smaller ones slower.
pub(super) const BATCH: usize = 50;

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is done with.
    Ack,
    /// It was not started: back into the queue. Free of charge from RabbitMQ 4.3 on.
    GiveBack,
    /// Nothing could be done about it: back into the queue, counted towards the delivery limit.
    Requeue,
    /// To the dead-letter exchange of its queue.
    DeadLetter,
}

/// What the broker is told of one delivery, or of all up to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) tag: DeliveryTag,
    /// Settles all before it as well; only ever with [`Verdict::Ack`].
    pub(super) multiple: bool,
    pub(super) verdict: Verdict,
}

/// The deliveries of a channel that the broker still counts as unacknowledged.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Tag of the front of `states`.
    first: DeliveryTag,
    states: VecDeque<State>,
    /// Finished since frames were last taken.
    finished: Vec<(DeliveryTag, Verdict)>,
    /// Acks left over from the last time, because an older delivery was not finished.
    late: Vec<DeliveryTag>,
    /// Frames were taken that are not written yet.
    sending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// With a handler.
    Running,
    /// To be acknowledged.
    Done,
    /// The broker has been told.
    Settled,
}

impl Window {
    /// Takes note of a delivery; in the order of their tags.
    pub(super) fn delivered(&mut self, tag: DeliveryTag) {
        if self.states.is_empty() {
            self.first = tag;
        }
        self.states.push_back(State::Running);
    }

    /// Takes note of a verdict, and gives how many wait to be told.
    pub(super) fn finish(&mut self, tag: DeliveryTag, verdict: Verdict) -> usize {
        if let Some(state) = self.state(tag) {
            *state = if verdict == Verdict::Ack { State::Done } else { State::Settled };
            self.finished.push((tag, verdict));
        }
        self.finished.len()
    }

    fn state(&mut self, tag: DeliveryTag) -> Option<&mut State> {
        let at = usize::try_from(tag.checked_sub(self.first)?).ok()?;
        self.states.get_mut(at)
    }

    /// Whether a batch is full, or something waits that is not to wait.
    pub(super) fn is_urgent(&self) -> bool {
        self.finished.len() >= BATCH || self.finished.iter().any(|(_, verdict)| *verdict != Verdict::Ack)
    }

    /// Whether acks were held back that are to go with the next frames.
    pub(super) fn is_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Whether every delivery has been settled and the broker been told.
    pub(super) fn is_idle(&self) -> bool {
        self.states.is_empty() && self.finished.is_empty() && self.late.is_empty() && !self.sending
    }

    /// Whether everything delivered before this one has been settled and the broker been told.
    pub(super) fn has_settled_before(&self, tag: DeliveryTag) -> bool {
        (self.states.is_empty() || self.first >= tag)
            && self.finished.iter().all(|(other, _)| *other >= tag)
            && !self.sending
    }

    /// The frames taken last are on their way.
    pub(super) fn written(&mut self) {
        self.sending = false;
    }

    /// The frames that tell the broker of what is finished, and how many deliveries they settle.
    ///
    /// The longest finished prefix goes as one frame. What is finished behind an unfinished delivery waits for
    /// one more round, for then the prefix has often caught up, and goes singly after that. A frame with
    /// `multiple` names a delivery that is itself unsettled, as the broker demands.
    pub(super) fn take_frames(&mut self) -> (Vec<Frame>, u64) {
        let mut frames = Vec::new();
        let mut settled = 0;
        for (tag, verdict) in self.finished.iter().filter(|(_, verdict)| *verdict != Verdict::Ack) {
            frames.push(Frame { tag: *tag, multiple: false, verdict: *verdict });
            settled += 1;
        }
        let (mut last_done, mut done) = (None, 0);
        while let Some(state) = self.states.front().filter(|state| **state != State::Running) {
            if *state == State::Done {
                last_done = Some(self.first);
                done += 1;
            }
            self.states.pop_front();
            self.first += 1;
        }
        if let Some(tag) = last_done {
            frames.push(Frame { tag, multiple: done > 1, verdict: Verdict::Ack });
            settled += done;
        }
        for tag in std::mem::take(&mut self.late) {
            if let Some(state) = self.state(tag).filter(|state| **state == State::Done) {
                *state = State::Settled;
                frames.push(Frame { tag, multiple: false, verdict: Verdict::Ack });
                settled += 1;
            }
        }
        let first = self.first;
        self.late = self
            .finished
            .drain(..)
            .filter(|(tag, verdict)| *verdict == Verdict::Ack && *tag >= first)
            .map(|(tag, _)| tag)
            .collect();
        self.sending = !frames.is_empty();
        (frames, settled)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(deliveries: u64) -> Window {
        let mut window = Window::default();
        (1..=deliveries).for_each(|tag| window.delivered(tag));
        window
    }

    fn ack(tag: u64, multiple: bool) -> Frame {
        Frame { tag, multiple, verdict: Verdict::Ack }
    }

    #[test]
    fn a_finished_prefix_is_one_frame() {
        let mut window = window(5);
        for tag in [3, 1, 2] {
            window.finish(tag, Verdict::Ack);
        }
        assert_eq!(window.take_frames(), (vec![ack(3, true)], 3));
    }

    #[test]
    fn what_is_finished_behind_an_unfinished_one_goes_singly_a_round_later() {
        let mut window = window(3);
        window.finish(2, Verdict::Ack);
        assert_eq!(window.take_frames(), (vec![], 0));
        assert_eq!(window.take_frames(), (vec![ack(2, false)], 1));
        window.finish(1, Verdict::Ack);
        assert_eq!(window.take_frames(), (vec![ack(1, false)], 1));
        window.finish(3, Verdict::Ack);
        assert_eq!(window.take_frames(), (vec![ack(3, false)], 1));
        assert!(window.states.is_empty());
    }

    proptest! {
        /// The broker's own bookkeeping: each frame names a delivery that it counts as unacknowledged, none that is
        /// still with a handler is ever settled, and in the end all are.
        #[test]
        fn every_delivery_is_settled_once_and_none_before_its_time(
            order in Just((1..=60_u64).collect::<Vec<_>>()).prop_shuffle(),
            verdicts in prop::collection::vec(0..4_u8, 60),
            rounds in prop::collection::vec(0..6_usize, 60),
        ) {
            let mut window = window(60);
            let mut unacked: std::collections::BTreeSet<u64> = (1..=60).collect();
            let mut running = unacked.clone();
            let mut told = |window: &mut Window, running: &std::collections::BTreeSet<u64>| -> Result<(), TestCaseError> {
                let (frames, count) = window.take_frames();
                let before = unacked.len();
                for frame in frames {
                    prop_assert!(unacked.contains(&frame.tag), "unknown delivery tag {}", frame.tag);
                    let named = if frame.multiple { 1..=frame.tag } else { frame.tag..=frame.tag };
                    prop_assert!(running.range(named.clone()).next().is_none(), "settled while it runs");
                    unacked.retain(|tag| !named.contains(tag));
                }
                prop_assert_eq!(before - unacked.len(), count as usize);
                Ok(())
            };
            for (tag, (verdict, rounds)) in order.into_iter().zip(verdicts.into_iter().zip(rounds)) {
                running.remove(&tag);
                let verdict = [Verdict::Ack, Verdict::Ack, Verdict::GiveBack, Verdict::DeadLetter][usize::from(verdict)];
                window.finish(tag, verdict);
                for _ in 0..rounds / 3 {
                    told(&mut window, &running)?;
                }
            }
            for _ in 0..3 {
                told(&mut window, &running)?;
            }
            prop_assert!(unacked.is_empty());
            window.written();
            prop_assert!(window.is_idle());
        }
    }
}

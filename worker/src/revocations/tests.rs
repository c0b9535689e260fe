use super::*;

fn clock() -> Clock {
    Clock::held(UnixMillis(1_000_000))
}

fn id(text: &str) -> TaskId {
    text.parse().unwrap()
}

fn numbered(number: usize) -> TaskId {
    id(&number.to_string())
}

fn of(ids: impl IntoIterator<Item = TaskId>, replays: Option<u32>) -> Revoked {
    Revoked { ids: ids.into_iter().collect(), replays }
}

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn a_task_stays_remembered_until_its_time_is_over() {
    let clock = clock();
    let revocations = Revocations::new(clock.clone());
    assert_eq!(revocations.of(&id("one"), 0), None);
    revocations.add(&of([id("one")], Some(0)), "not wanted", HOUR);
    for _ in 0..2 {
        assert_eq!(revocations.of(&id("one"), 0).as_deref(), Some("not wanted"), "there may be a duplicate");
    }
    assert_eq!(revocations.of(&id("two"), 0), None);
    clock.advance(HOUR - Duration::from_millis(1));
    assert!(revocations.of(&id("one"), 0).is_some());
    clock.advance(Duration::from_millis(1));
    assert_eq!(revocations.of(&id("one"), 0), None);
    assert!(revocations.kept.lock().order.is_empty(), "it takes no room any more");
}

#[test]
fn a_replay_is_another_life() {
    let revocations = Revocations::new(clock());
    revocations.add(&of([id("said")], Some(1)), "", HOUR);
    assert!(revocations.of(&id("said"), 0).is_some() && revocations.of(&id("said"), 1).is_some());
    assert_eq!(revocations.of(&id("said"), 2), None);
    // Where nobody has said which life is meant, it is that of the first delivery.
    revocations.add(&of([id("unsaid")], None), "", HOUR);
    assert!(revocations.of(&id("unsaid"), 3).is_some());
    assert_eq!(revocations.of(&id("unsaid"), 4), None);
    assert!(revocations.of(&id("unsaid"), 3).is_some());
}

#[test]
fn beyond_the_bound_the_oldest_is_forgotten() {
    let revocations = Revocations::new(clock());
    revocations.add(&of((0..MOST).map(numbered), Some(0)), &"ü".repeat(5_000), HOUR);
    assert_eq!(revocations.of(&numbered(0), 0).unwrap().chars().count(), LONGEST_REASON);
    // Told of again, it is not the oldest any more.
    revocations.add(&of([numbered(0)], Some(0)), "again", HOUR);
    revocations.add(&of([id("more"), id("and more")], Some(0)), "", HOUR);
    let known = |number: usize| revocations.of(&numbered(number), 0).is_some();
    assert!(known(0) && !known(1) && !known(2) && known(3) && known(MOST - 1));
    let kept = revocations.kept.lock();
    assert_eq!((kept.by_id.len(), kept.order.len()), (MOST, MOST));
}

//! A queue that is paused everywhere stays paused until it is resumed: through restarts of all workers, for those that
//! start later, and for those that were not told.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

use std::time::Duration;

use leveret::{
    QueueName,
    common::control::{Answer, Command, Control, Outcome, Pause, Target},
    worker::control::ControlSettings,
};
use leveret_testkit::{eventually, eventually_eq};
use leveret_tests::{PATIENCE, Place, steered::Steered};

const ANSWERS: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_millis(300);

fn mail() -> QueueName {
    QueueName::new("mail").unwrap()
}

async fn steered(place: &Place, look: Duration) -> Steered {
    let mut settings = ControlSettings::default();
    settings.look = look;
    Steered::start(place.settings.clone(), "mail", &["mail", "bulk"], settings).await.listens().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlives_the_workers_and_meets_those_that_start_later() {
    let place = Place::new().await;
    let never = Duration::from_secs(3_600);
    let (a, b) = (steered(&place, never).await, steered(&place, never).await);
    let control = Control::connect(place.settings.clone()).await.unwrap();
    let replies = control.pause_everywhere(&mail(), Some("new schema".to_owned()), SOON).await.unwrap();
    assert_eq!(replies.len(), 2);
    for reply in replies {
        let Outcome::Answer(Answer::StillPaused { pause }) = reply.outcome else { panic!("it is not paused") };
        assert_eq!((pause.reason.as_deref(), pause.everywhere), (Some("new schema"), true));
        assert!(pause.by.unwrap().contains("guest") && pause.since.is_some());
    }
    for worker in [&a, &b] {
        assert_eq!(worker.double.told(), ["pause mail new schema"], "told once, and only of that queue");
    }
    a.stop().await;
    b.stop().await;

    let later = steered(&place, never).await;
    assert_eq!(later.double.told(), ["start without mail"]);
    // To resume at one worker does not help while it is paused everywhere.
    let resume = Command::Resume { queue: mail() };
    let replies = control.send(&Target::Instance(later.instance), &resume, ANSWERS).await.unwrap();
    assert!(matches!(&replies[0].outcome, Outcome::Answer(Answer::StillPaused { .. })), "{replies:?}");
    // Pausing again changes the reason, and nothing else.
    control.pause_everywhere(&mail(), Some("still the schema".to_owned()), SOON).await.unwrap();
    let found = control.flags().look(&mail(), None).await.unwrap();
    assert_eq!(found.unwrap().reason.as_deref(), Some("still the schema"));

    let (was_paused, replies) = control.resume_everywhere(&mail(), SOON).await.unwrap();
    assert!(was_paused && replies.len() == 1 && replies[0].outcome == Outcome::Answer(Answer::Ok), "{replies:?}");
    assert_eq!(later.double.told(), ["start without mail", "resume mail"]);
    assert!(!place.vhost.exists("mail.paused").await);
    assert!(!control.resume_everywhere(&mail(), SOON).await.unwrap().0);
    assert_eq!(steered(&place, never).await.double.told(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_not_told_finds_out() {
    let place = Place::new().await;
    let worker = steered(&place, Duration::from_millis(100)).await;
    let control = Control::connect(place.settings.clone()).await.unwrap();
    let pause = Pause::everywhere(None, None, leveret::UnixMillis(1));
    // Nobody is told.
    control.flags().raise(&mail(), &pause).await.unwrap();
    worker.double.until_told("pause mail -").await;
    control.flags().lower(&mail()).await.unwrap();
    worker.double.until_told("resume mail").await;

    // A pause at this worker holds beside the one everywhere.
    let here = Command::Pause { queue: mail(), reason: Some("here".to_owned()), by: None };
    control.send(&Target::Instance(worker.instance), &here, ANSWERS).await.unwrap();
    control.pause_everywhere(&mail(), None, SOON).await.unwrap();
    control.resume_everywhere(&mail(), SOON).await.unwrap();
    assert_eq!(worker.double.told(), ["pause mail -", "resume mail", "pause mail here"]);
}

/// Workers ask for ever; the broker must not fill up with the questions, nor log each of them as an error.
#[tokio::test(flavor = "multi_thread")]
async fn asking_leaves_nothing_behind() {
    let place = Place::new().await;
    let control = Control::connect(place.settings.clone()).await.unwrap();
    let flags = control.flags();
    for _ in 0..50 {
        assert_eq!(flags.look(&mail(), None).await.unwrap(), None);
    }
    assert!(!place.vhost.exists("mail.paused").await);
    let pause = Pause::everywhere(Some("why".to_owned()), None, leveret::UnixMillis(1));
    flags.raise(&mail(), &pause).await.unwrap();
    let queue = mail();
    let looks = (0..50).map(|_| flags.look(&queue, None));
    for found in futures_util::future::join_all(looks).await {
        assert!(found.unwrap().unwrap().everywhere);
    }
    eventually(PATIENCE, async || flags.look(&mail(), None).await.unwrap() == Some(pause.clone())).await;
    eventually_eq(PATIENCE, true, async || place.vhost.ready("mail.paused").await <= 3).await;
}

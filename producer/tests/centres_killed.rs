//! Centres that are killed, stopped and started again all the time neither miss a tick nor decide about one twice.

#![expect(clippy::unwrap_used, reason = "a test reports by failing")]

mod centre;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    time::Duration,
};

use centre::{definition, name, open};
use futures_util::StreamExt as _;
use lapin::{options::BasicConsumeOptions, types::FieldTable};
use leveret_common::{
    client::Client,
    clock::{Clock, UnixMillis},
    config::BrokerSettings,
    task::TaskId,
    topology::{QueueName, QueueSettings, Topology},
};
use leveret_producer::{
    centre::{
        engine::{Engine, EngineOptions},
        store::{Expected, Source, Store},
    },
    plan::{Facts, Plan, TickKind},
};
use leveret_testkit::{Broker, Node, Postgres, Vhost, eventually};
use serde_json::json;
use tokio::{
    process::{Child, Command},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// How the test tells its own program that it is to be a centre: database and broker, with a space between.
const PLACE: &str = "LEVERET_TEST_CENTRE";
const CENTRES: usize = 3;

/// A centre in a process of its own, which is this program again.
struct Process {
    place: String,
    child: Child,
}

impl Process {
    fn start(place: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_centre_in_a_process_of_its_own", "--ignored", "--nocapture"]);
        command.env(PLACE, place).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        Self { place: place.to_owned(), child: command.spawn().unwrap() }
    }

    /// SIGKILL, and another is started at once.
    async fn replace(&mut self) {
        self.child.kill().await.unwrap();
        *self = Self::start(&self.place);
    }

    async fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    }
}

/// Not a test: what [`Process`] runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other tests start it"]
async fn a_centre_in_a_process_of_its_own() {
    #[expect(clippy::disallowed_methods, reason = "a test's own program has no arguments but those of the harness")]
    let Ok(place) = std::env::var(PLACE) else { return };
    let (database, broker) = place.split_once(' ').unwrap();
    let store = open(database, Clock::system()).await;
    let mut settings = BrokerSettings::new(broker).unwrap();
    settings.reconnect_max = Duration::from_millis(500);
    let client = Client::open(settings, Clock::system()).unwrap();
    let _engine = Engine::start(store, client, EngineOptions::default()).await.unwrap();
    std::future::pending::<()>().await;
}

/// What happens while the centres work.
struct Course {
    schedules: usize,
    seconds: u64,
    /// When one is stopped, and for how long.
    stopped: (u64, u64),
    /// The broker, and when it is restarted.
    node: Option<(Node, u64)>,
}

impl Course {
    async fn run(self) {
        let postgres = Postgres::shared().await.database().await;
        let broker = match &self.node {
            Some((node, _)) => node.broker().clone(),
            None => Broker::shared().await,
        };
        let vhost = broker.vhost().await;
        let store = open(postgres.url(), Clock::system()).await;
        declare(&vhost).await;
        let each = Duration::from_millis(10) * u32::try_from(self.schedules).unwrap();
        let begin = Clock::system().now() + Duration::from_secs(10) + each;
        let expected = self.make_schedules(&store, begin).await;
        assert!(Clock::system().now() < begin, "making the schedules took too long");
        println!("{} schedules, {} ticks in {} s", self.schedules, expected.len(), self.seconds);

        let place = format!("{} {}", postgres.url(), vhost.url());
        let mut centres: Vec<_> = (0..CENTRES).map(|_| Process::start(&place)).collect();
        let start = Instant::now() + begin.since(Clock::system().now());
        let at = |second: u64| sleep_until(start + Duration::from_secs(second));
        let restart = async {
            if let Some((node, second)) = &self.node {
                at(*second).await;
                let begun = Instant::now();
                node.restart().await;
                println!("second {second}: the broker was restarted, which took {:?}", begun.elapsed());
            }
        };
        let torment = async {
            let (stop, length) = self.stopped;
            for second in 1..=self.seconds {
                at(second).await;
                if second == stop {
                    println!("second {second}: centre 0 is stopped");
                    centres[0].signal("-STOP").await;
                }
                if second == stop + length {
                    println!("second {second}: centre 0 goes on");
                    centres[0].signal("-CONT").await;
                }
                if second % 5 == 0 {
                    // Not the one that is stopped: it has to come back to what others have taken over.
                    let alive = 1 + usize::try_from(second / 5).unwrap() % (CENTRES - 1);
                    let victim =
                        if second > stop + length { usize::try_from(second / 5).unwrap() % CENTRES } else { alive };
                    println!("second {second}: centre {victim} is killed");
                    centres[victim].replace().await;
                }
            }
        };
        tokio::join!(restart, torment);
        check(&store, &vhost, &expected).await;
    }

    /// The schedules, and the ids of the tasks of all their ticks.
    async fn make_schedules(&self, store: &Store, begin: UnixMillis) -> BTreeMap<(String, i64), TaskId> {
        let end = begin + Duration::from_secs(self.seconds);
        let mut expected = BTreeMap::new();
        let mut saving = JoinSet::new();
        for index in 0..self.schedules {
            let every = [1, 2, 5, 5, 10, 10, 10, 10, 10, 10][index % 10];
            let schedule = name(&format!("s{index}"));
            let definition = definition(json!({
                "every": format!("{every}s"),
                "starts_at": begin.to_rfc3339(),
                "ends_at": end.to_rfc3339(),
                "missed": "all",
                "missed_limit": 10_000,
                "payload": index,
            }));
            let plan = Plan::new(schedule.clone(), definition, &[]).unwrap();
            let (store, saved) = (store.clone(), plan.clone());
            saving.spawn(async move {
                let (name, definition) = (saved.name(), saved.definition());
                store.save_schedule(name, definition, &[], Source::Api, Expected::Absent, None).await.unwrap();
            });
            if saving.len() == 8 {
                saving.join_next().await.unwrap().unwrap();
            }
            let first = plan.next_after(begin - Duration::from_millis(1));
            for tick in std::iter::successors(first, |tick| plan.next_after(tick.scheduled_at)) {
                let facts = Facts {
                    schedule: schedule.clone(),
                    scheduled_at: tick.scheduled_at,
                    kind: TickKind::Tick,
                    number: 0,
                    last_success: None,
                    payload: None,
                };
                expected.insert((schedule.name().to_owned(), tick.scheduled_at.0), facts.task_id());
            }
        }
        saving.join_all().await;
        expected
    }
}

async fn declare(vhost: &Vhost) {
    let client = Client::connect(BrokerSettings::new(vhost.url()).unwrap()).await.unwrap();
    let topology = Topology::new("leveret").unwrap();
    client.apply(&topology.queue(QueueName::new("default").unwrap(), QueueSettings::default())).await.unwrap();
    client.close().await;
}

/// Every tick was recorded once and published, under its own id, and there is no other.
async fn check(store: &Store, vhost: &Vhost, expected: &BTreeMap<(String, i64), TaskId>) {
    let rows = async || {
        let all =
            "SELECT schedule, scheduled_at, kind, task_id, state, decided_at, published_at FROM leveret_centre_ticks";
        store.database().fetch(all, []).await.unwrap()
    };
    eventually(Duration::from_secs(60), async || {
        let open = "SELECT count(*) AS n FROM leveret_centre_ticks WHERE state = 'pending'";
        let pending = store.database().fetch(open, []).await.unwrap()[0].number("n").unwrap();
        let left = "SELECT count(*) AS n FROM leveret_centre_schedules WHERE next_at IS NOT NULL";
        let left = store.database().fetch(left, []).await.unwrap()[0].number("n").unwrap();
        if pending + left == 0 {
            Ok(())
        } else {
            Err(format!("{pending} ticks pending, {left} schedules not at their end"))
        }
    })
    .await;
    let (mut recorded, mut late_decision, mut late_publish) = (BTreeMap::new(), Vec::new(), Vec::new());
    for row in rows().await {
        let at = row.number("scheduled_at").unwrap();
        assert_eq!(
            (row.text("state").unwrap(), row.text("kind").unwrap()),
            ("published".to_owned(), "tick".to_owned())
        );
        late_decision.push(row.number("decided_at").unwrap() - at);
        late_publish.push(row.number("published_at").unwrap() - at);
        let id: TaskId = row.text("task_id").unwrap().parse().unwrap();
        let again = recorded.insert((row.text("schedule").unwrap(), at), id);
        assert_eq!(again, None, "a tick was recorded twice");
    }
    assert_eq!(recorded.len(), expected.len());
    assert_eq!(&recorded, expected);
    let found = ids_in_queue(vhost).await;
    let (messages, published) = (found.len(), BTreeSet::from_iter(found));
    let ids: BTreeSet<_> = expected.values().map(ToString::to_string).collect();
    assert_eq!(ids.len(), expected.len(), "two ticks have one id");
    assert_eq!(published, ids);
    println!(
        "{} ticks, each recorded once; {messages} messages, {} of them again under their id",
        ids.len(),
        messages - ids.len()
    );
    for (what, mut late) in [("decided", late_decision), ("published", late_publish)] {
        late.sort_unstable();
        let of = |share: usize| late[(late.len() - 1) * share / 100];
        println!("{what} late by, in ms: median {}, 99 % {}, worst {}", of(50), of(99), of(100));
    }
}

/// The ids of all messages of the queue.
async fn ids_in_queue(vhost: &Vhost) -> Vec<String> {
    let count = usize::try_from(vhost.ready("default").await).unwrap();
    let channel = vhost.channel().await;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consumer = channel.basic_consume("default".into(), "".into(), options, FieldTable::default()).await.unwrap();
    let id = |delivery: lapin::message::Delivery| delivery.properties.message_id().clone().unwrap().to_string();
    consumer.take(count).map(|delivery| id(delivery.unwrap())).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn centres_that_are_killed_neither_miss_nor_double_a_tick() {
    Course { schedules: 300, seconds: 15, stopped: (4, 5), node: None }.run().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes two minutes: cargo test --test centres_killed -- --ignored for_a_minute"]
async fn for_a_minute_with_a_broker_that_is_restarted() {
    let node = Node::private("centres-killed").await;
    Course { schedules: 2_000, seconds: 60, stopped: (17, 6), node: Some((node, 33)) }.run().await;
}

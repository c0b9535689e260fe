//! The number of shards changes while publishers and workers go on, and nothing is lost, doubled or out of order; also
//! when a worker, or the change itself, is killed in the middle.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its helpers too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use leveret::{
    Client, Message, QueueName, QueueSettings, Topology,
    common::{
        link::{ChannelPool, Link, Publisher, Role},
        shards::{Reshard, ReshardError, Step},
        topology::{self, declare, present_shards},
    },
};
use leveret_testkit::{eventually, eventually_eq};
use leveret_tests::{PATIENCE, Place, shards::Ran, within};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

const KEYS: u32 = 24;
/// What one task takes. Long enough that two of one key would be seen side by side.
const WORK_US: &str = "2000";

fn mail() -> QueueName {
    QueueName::new("mail").unwrap()
}

fn settings(shards: u16) -> QueueSettings {
    QueueSettings { shards: Some(shards), ..QueueSettings::default() }
}

struct Operator {
    link: Link,
    pool: ChannelPool,
    reshard: Reshard,
}

impl Operator {
    fn new(place: &Place, shards: u16) -> Self {
        let link = Link::open(Arc::new(place.settings.clone()), Role::Admin);
        let pool = ChannelPool::new(link.clone());
        let topology = Topology::new("leveret").unwrap().queue(mail(), settings(shards));
        let publisher = Publisher::new(link.clone());
        let reshard = Reshard::new(pool.clone(), publisher, topology, mail()).unwrap();
        Self { link, pool, reshard: reshard.settle(Duration::from_millis(300)) }
    }

    async fn to(&self, shards: u16) -> Vec<Step> {
        let mut steps = Vec::new();
        let done = self.reshard.to(shards, |step| steps.push(step));
        within("the number of shards is changed", done).await.unwrap();
        steps
    }

    async fn shards(&self) -> Vec<u16> {
        present_shards(&self.pool, &mail(), 1).await.unwrap()
    }
}

/// Publishes tasks of all keys in turn, each key's numbered from 0, until it is stopped.
struct Publishing {
    stop: CancellationToken,
    task: JoinHandle<u32>,
}

impl Publishing {
    fn start(client: Client) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut number = 0;
            loop {
                // A last round comes after the stop: whoever has run it has passed every gate and barrier of before.
                let last = stopped.is_cancelled();
                let message =
                    |key: u32| Message::json("note", &number).unwrap().queue("mail").key(&format!("key-{key}"));
                client.publish_many((0..KEYS).map(message)).await.into_iter().for_each(|sent| drop(sent.unwrap()));
                number += 1;
                if last {
                    return number;
                }
                // No faster than it is worked off: what waits in a shard is what a removal waits for.
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
        });
        Self { stop, task }
    }

    /// How many there are of each key.
    async fn stop(self) -> u32 {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

struct Workers {
    processes: BTreeMap<String, Child>,
    told: mpsc::UnboundedReceiver<Ran>,
    ran: Vec<Ran>,
}

impl Workers {
    fn start(place: &Place, shards: u16, names: &[&str]) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let mut processes = BTreeMap::new();
        for name in names {
            let mut process = Command::new(env!("CARGO_BIN_EXE_shard_worker"))
                .args([place.vhost.url(), &shards.to_string(), name, &names.join(","), WORK_US])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
            let tell = tell.clone();
            tokio::spawn(async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    // A killed process may leave half a line.
                    if let Ok(ran) = serde_json::from_str(&line) {
                        drop(tell.send(ran));
                    }
                }
            });
            processes.insert((*name).to_owned(), process);
        }
        Self { processes, told, ran: Vec::new() }
    }

    /// SIGKILL.
    async fn kill(&mut self, name: &str) {
        self.processes.remove(name).unwrap().kill().await.unwrap();
    }

    /// Waits until a task has ended after this moment.
    async fn at_work(&mut self) {
        let seen = self.ran.len();
        while self.ran.len() < seen + 50 {
            let ran = within("a task is run", self.told.recv()).await.unwrap();
            self.ran.push(ran);
        }
    }

    /// Waits until so many tasks of each key are done, stops the workers, and gives what they ran.
    async fn finish(mut self, place: &Place, per_key: u32) -> Vec<Ran> {
        let wanted = usize::try_from(KEYS * per_key).unwrap();
        let mut done = BTreeSet::new();
        let mut seen = 0;
        loop {
            let ended = self.ran[seen..].iter().filter(|ran| ran.ended.is_some());
            done.extend(ended.map(|ran| (ran.key.clone(), ran.number)));
            seen = self.ran.len();
            if done.len() >= wanted {
                break;
            }
            match tokio::time::timeout(PATIENCE, self.told.recv()).await {
                Ok(ran) => self.ran.push(ran.unwrap()),
                Err(_) => panic!("{} of {wanted} done; queues: {:?}", done.len(), place.vhost.queues().await),
            }
        }
        for process in self.processes.values_mut() {
            drop(process.stdin.take());
        }
        for (_, mut process) in self.processes {
            assert!(within("a worker stops", process.wait()).await.unwrap().success());
        }
        while let Ok(ran) = self.told.try_recv() {
            self.ran.push(ran);
        }
        self.ran
    }
}

/// Every task was run, none beside another of its key nor after a later one, and none twice unless its worker was
/// killed. Gives how often a task was run again.
fn check(ran: &[Ran], per_key: u32) -> usize {
    let mut again = 0;
    for key in 0..KEYS {
        let key = Some(format!("key-{key}"));
        let mut begun: Vec<&Ran> = ran.iter().filter(|ran| ran.key == key && ran.ended.is_none()).collect();
        begun.sort_by_key(|ran| ran.began);
        let mut next = 0;
        for run in &begun {
            if run.number + 1 == next && run.redelivered {
                again += 1;
                continue;
            }
            assert_eq!(run.number, next, "{key:?} out of order: {begun:#?}");
            next += 1;
        }
        assert_eq!(next, per_key, "{key:?} has lost some");
        let mut whole: Vec<&Ran> = ran.iter().filter(|ran| ran.key == key && ran.ended.is_some()).collect();
        whole.sort_by_key(|ran| ran.began);
        for pair in whole.windows(2) {
            assert!(pair[0].ended.unwrap() <= pair[1].began, "side by side: {pair:?}");
        }
    }
    again
}

async fn nothing_is_left(place: &Place, shards: u16) {
    let mut queues: Vec<String> = (0..shards).map(|index| mail().shard(index)).collect();
    queues.extend(["mail.dead".to_owned(), "leveret.lost".to_owned()]);
    for queue in queues {
        eventually_eq(PATIENCE, 0, async || place.vhost.ready(&queue).await).await;
    }
    let flags = async || place.vhost.queues().await.into_iter().filter(|queue| queue.contains(".flag.")).count();
    eventually_eq(PATIENCE, 0, flags).await;
}

async fn begin(place: &Place, shards: u16) -> (Operator, Workers, Publishing) {
    let operator = Operator::new(place, shards);
    let topology = Topology::new("leveret").unwrap().queue(mail(), settings(shards));
    declare(&operator.pool, &topology).await.unwrap();
    let workers = Workers::start(place, shards, &["a", "b", "c"]);
    let publishing = Publishing::start(place.client().await);
    (operator, workers, publishing)
}

#[tokio::test(flavor = "multi_thread")]
async fn from_four_to_eight_and_back_while_all_go_on() {
    let place = Place::new().await;
    let (operator, mut workers, publishing) = begin(&place, 4).await;
    workers.at_work().await;
    assert_eq!(operator.to(8).await.len(), 4);
    assert_eq!(operator.shards().await, (0..8).collect::<Vec<_>>());
    workers.at_work().await;
    let removed = operator.to(4).await.into_iter().filter(|step| matches!(step, Step::Removed { .. })).count();
    assert_eq!(removed, 4);
    assert_eq!(operator.shards().await, (0..4).collect::<Vec<_>>());
    workers.at_work().await;
    let per_key = publishing.stop().await;
    let ran = workers.finish(&place, per_key).await;
    assert_eq!(check(&ran, per_key), 0, "nobody was killed, so none ran twice");
    let used = |shard| ran.iter().any(|ran| ran.shard == shard);
    assert!((0..8).all(used), "every shard got tasks");
    nothing_is_left(&place, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_and_a_killed_change_lose_nothing() {
    let place = Place::new().await;
    let (operator, mut workers, publishing) = begin(&place, 4).await;
    workers.at_work().await;
    for (killed, from, to) in [(Some("b"), 4, 8), (None, 8, 5)] {
        // Ended after a time of its own at each try, so that another step is the last.
        for try_number in 0..6_u32 {
            let operator = Operator::new(&place, 4);
            let change = operator.reshard.to(to, |_| {});
            let cut = Duration::from_millis(u64::from(90 + 170 * try_number));
            if tokio::time::timeout(cut, change).await.is_ok() {
                break;
            }
            operator.link.close().await;
            if let Some(name) = killed.filter(|_| try_number == 1) {
                workers.kill(name).await;
            }
        }
        let unfinished = operator.shards().await.len();
        assert!((usize::from(from.min(to))..=usize::from(from.max(to))).contains(&unfinished), "{unfinished}");
        operator.to(to).await;
        assert_eq!(operator.shards().await, (0..to).collect::<Vec<_>>());
    }
    let per_key = publishing.stop().await;
    let ran = workers.finish(&place, per_key).await;
    let again = check(&ran, per_key);
    assert!(again <= 8, "a killed worker has one task of a shard at a time, {again} ran twice");
    nothing_is_left(&place, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_changed_is_told() {
    let place = Place::new().await;
    let operator = Operator::new(&place, 4);
    let to = async |shards| operator.reshard.to(shards, |_| {}).await.unwrap_err();
    assert!(matches!(to(4).await, ReshardError::NotSharded { .. }));
    let topology = Topology::new("leveret").unwrap().queue(mail(), settings(4));
    declare(&operator.pool, &topology).await.unwrap();
    assert!(matches!(to(0).await, ReshardError::Number { .. }));
    assert!(matches!(to(101).await, ReshardError::Number { .. }));

    // The other has begun to remove a shard, and nobody works: it waits.
    let other = Operator::new(&place, 4);
    let waiting = tokio::spawn(async move { other.reshard.to(3, |_| {}).await });
    eventually(PATIENCE, async || place.vhost.exists("mail.flag.shrink-03").await).await;
    assert!(matches!(to(8).await, ReshardError::Busy { .. }));
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    other.link.close().await;

    let channel = place.vhost.channel().await;
    channel.queue_delete(leveret_tests::short("mail.01"), Default::default()).await.unwrap();
    let hole = async || match to(8).await {
        ReshardError::Hole { shard } if shard == "mail.01" => Ok(()),
        error => Err(error),
    };
    eventually(PATIENCE, hole).await;
    assert!(topology::is_sharded(&operator.pool, &mail()).await.unwrap());
}

//! A list of URLs: the first that answers is taken, and when it is lost, another.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

use std::time::Duration;

use leveret::{BrokerSettings, Client, ClientError, Clock, ConnectError, StartError, common::link::LinkState};
use leveret_testkit::{Direction, FaultProxy, eventually, eventually_eq};
use leveret_tests::{PATIENCE, Place, Runs, probe, quick, settings, start, within, worker};
use tokio::{io::AsyncReadExt, net::TcpListener};

/// Ways to the same broker that fail one by one, as the nodes of a cluster would.
struct Nodes(Vec<FaultProxy>);

impl Nodes {
    async fn to(place: &Place, count: usize) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(FaultProxy::to(place.vhost.url()).await);
        }
        Self(nodes)
    }

    fn settings(&self) -> BrokerSettings {
        list(&self.0.iter().map(FaultProxy::url).collect::<Vec<_>>())
    }

    /// How often each has been connected to.
    fn accepted(&self) -> Vec<usize> {
        self.0.iter().map(FaultProxy::accepted).collect()
    }

    /// How many connections each has.
    fn open(&self) -> Vec<usize> {
        self.0.iter().map(FaultProxy::open).collect()
    }
}

fn list(urls: &[&str]) -> BrokerSettings {
    let mut settings = settings(urls[0]);
    settings.url = urls.iter().map(|url| url.parse().unwrap()).collect();
    settings
}

async fn round_trip(client: &Client, runs: &mut Runs, arguments: &str) {
    within("publish", client.publish_message(probe(arguments))).await.unwrap();
    loop {
        // A task whose acknowledgement was lost with the connection comes again.
        let run = runs.next().await;
        let wanted = run.arguments == arguments;
        run.done();
        if wanted {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_node_that_answers_is_taken() {
    let place = Place::new().await;
    let nodes = Nodes::to(&place, 4).await;
    nodes.0[0].refuse();
    // Up, but deaf: the attempt ends with its time.
    nodes.0[1].stall(Direction::Both);
    let mut settings = nodes.settings();
    settings.timeout = Duration::from_millis(500);
    let (builder, mut runs) = worker(settings.clone());
    let worker = start(builder.queue("default", quick(1))).await;
    let client = Client::connect(settings).await.unwrap();
    round_trip(&client, &mut runs, "third").await;
    assert!(nodes.0[2].url().contains(&client.link().live().await.unwrap().host));
    assert_eq!(nodes.accepted()[2..], [3, 0], "a client's connection and a worker's two");
    // What was given up is not kept, to come up after all.
    nodes.0[1].resume();
    eventually_eq(PATIENCE, vec![0, 0, 3, 0], async || nodes.open()).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_given_up_leaves_no_connection_behind() {
    // It accepts, hears the client out and never answers.
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = settings(&format!("amqp://{}", deaf.local_addr().unwrap()));
    settings.timeout = Duration::from_millis(100);
    let client = Client::open(settings, Clock::system()).unwrap();
    for _ in 0..3 {
        let (mut socket, _) = within("the next attempt", deaf.accept()).await.unwrap();
        let mut heard = Vec::new();
        within("the client hangs up", socket.read_to_end(&mut heard)).await.unwrap();
        assert_eq!(heard, b"AMQP\x00\x00\x09\x01");
    }
    let LinkState::Down(Some(error)) = client.link().state() else { panic!("{:?}", client.link().state()) };
    assert!(error.to_string().contains("no answer within 100 ms"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_loss_leads_to_the_next_node_and_around() {
    let place = Place::new().await;
    let nodes = Nodes::to(&place, 3).await;
    let (builder, mut runs) = worker(nodes.settings());
    let worker = start(builder.queue("default", quick(1))).await;
    let client = Client::connect(nodes.settings()).await.unwrap();
    round_trip(&client, &mut runs, "first").await;
    assert_eq!(nodes.open(), [3, 0, 0]);

    // The first dies for good, then the second; the first comes back, then the third dies.
    for (lost, back, wanted) in [(0, None, [0, 3, 0]), (1, None, [0, 0, 3]), (2, Some(0), [3, 0, 0])] {
        if let Some(back) = back {
            nodes.0[back].resume();
        }
        nodes.0[lost].refuse();
        round_trip(&client, &mut runs, &format!("without {lost}")).await;
        eventually_eq(PATIENCE, wanted.to_vec(), async || nodes.open()).await;
    }

    // A node that only lost its connections is not where they come back first: the next is.
    nodes.0[1].resume();
    nodes.0[0].cut();
    round_trip(&client, &mut runs, "moved").await;
    eventually_eq(PATIENCE, vec![0, 3, 0], async || nodes.open()).await;

    // All are down for a while.
    nodes.0[0].refuse();
    nodes.0[1].refuse();
    eventually(PATIENCE, async || worker.health().ready().err().filter(|why| why.contains("no broker answers"))).await;
    nodes.0[2].resume();
    round_trip(&client, &mut runs, "all were down").await;
    eventually(PATIENCE, async || worker.health().ready()).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_that_refuses_does_not_keep_the_others_away() {
    let place = Place::new().await;
    let wrong = place.vhost.url().replace("guest:guest", "guest:wrong");
    assert_ne!(wrong, place.vhost.url());
    let (builder, mut runs) = worker(list(&[&wrong, place.vhost.url()]));
    let worker = start(builder.queue("default", quick(1))).await;
    let client = Client::connect(list(&[&wrong, place.vhost.url()])).await.unwrap();
    round_trip(&client, &mut runs, "second").await;
    worker.stop().await;

    // Where no node is left, the refusal is told, not that another did not answer.
    let dead = FaultProxy::to(place.vhost.url()).await;
    dead.refuse();
    for urls in [[wrong.as_str(), dead.url()], [dead.url(), &wrong]] {
        let client = within("the client's error", Client::connect(list(&urls))).await;
        let Err(ClientError::Connect(ConnectError::Refused { .. })) = client else { panic!("{client:?}") };
        let worker = self::worker(list(&urls)).0.build().unwrap();
        let worker = within("the worker's error", worker.start()).await;
        let Err(StartError::Connect(ConnectError::Refused { .. })) = worker else { panic!("{worker:?}") };
    }
}

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn peer(name: &str, weight: u32, busy: u32) -> Peer {
    Peer { name: name.into(), instance: name.into(), queues: vec!["q".into()], weight, busy, capacity: 16 }
}

fn first(choice: Choice) -> String {
    match choice {
        Choice::To(order) => order.into_iter().next().unwrap(),
        other => panic!("{other:?} names no worker"),
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("worker-{number}")).collect()
}

#[test]
fn every_route_reads_back_from_its_text() {
    let texts = ["competing", "round-robin", "weighted", "random", "hash", "least-loaded", "sticky:a:b", "broadcast"];
    for text in texts.into_iter().chain(["first-alive"]) {
        assert_eq!(text.parse::<Route>().unwrap().to_string(), text);
    }
    for text in ["", "sticky:", "Random", "sticky"] {
        assert!(text.parse::<Route>().is_err(), "{text}");
    }
}

#[test]
fn without_peers_the_task_runs_where_it_is() {
    for route in [Route::Hash, Route::Broadcast, Route::Sticky("a".into()), Route::Competing] {
        assert_eq!(Router::default().choose(&route, None, "1", &[]), Choice::Here);
    }
}

#[test]
fn sticky_fails_over_and_comes_home() {
    let router = Router::default();
    let route = Route::Sticky("b".to_owned());
    let all = [peer("a", 1, 0), peer("b", 1, 9), peer("c", 1, 0)];
    assert_eq!(first(router.choose(&route, None, "1", &all)), "b");
    let Choice::To(order) = router.choose(&route, None, "1", &all) else { panic!() };
    assert_eq!(order.len(), 3, "who is there if it cannot be reached after all");
    assert_ne!(first(router.choose(&route, None, "1", &[all[0].clone(), all[2].clone()])), "b");
}

#[test]
fn a_broadcast_names_every_worker_once_and_the_first_alive_is_the_first_by_name() {
    let peers = [peer("b", 1, 0), peer("a", 1, 0), peer("b", 1, 0)];
    let every = Choice::Every(vec!["a".to_owned(), "b".to_owned()]);
    assert_eq!(Router::default().choose(&Route::Broadcast, None, "1", &peers), every);
    assert_eq!(first(Router::default().choose(&Route::FirstAlive, None, "1", &peers)), "a");
}

proptest! {
    #[test]
    fn round_robin_is_even(workers in 1..20_usize, rounds in 1..10_usize) {
        let peers: Vec<_> = names(workers).iter().map(|name| peer(name, 1, 0)).collect();
        let router = Router::default();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..workers * rounds {
            *counts.entry(first(router.choose(&Route::RoundRobin, None, "1", &peers))).or_default() += 1;
        }
        prop_assert_eq!(counts.len(), workers);
        prop_assert!(counts.values().all(|count| *count == rounds));
    }

    #[test]
    fn weights_are_kept_exactly_over_a_round(weights in prop::collection::vec(0..9_u32, 1..8)) {
        prop_assume!(weights.iter().sum::<u32>() > 0);
        let peers: Vec<_> =
            names(weights.len()).iter().zip(&weights).map(|(name, weight)| peer(name, *weight, 0)).collect();
        let router = Router::default();
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..weights.iter().sum() {
            *counts.entry(first(router.choose(&Route::Weighted, None, "1", &peers))).or_default() += 1;
        }
        for peer in &peers {
            prop_assert_eq!(counts.get(&peer.name).copied().unwrap_or(0), peer.weight);
        }
    }

    #[test]
    fn only_the_keys_of_a_worker_that_leaves_move(workers in 2..12_usize, leaves in 0..12_usize, keys in 1..200_u32) {
        let mut peers: Vec<_> = names(workers).iter().map(|name| peer(name, 1, 0)).collect();
        let router = Router::default();
        let at = |peers: &[Peer]| -> Vec<String> {
            (0..keys).map(|key| first(router.choose(&Route::Hash, Some(&key.to_string()), "x", peers))).collect()
        };
        let before = at(&peers);
        let gone = peers.remove(leaves % workers).name;
        for (before, after) in before.into_iter().zip(at(&peers)) {
            prop_assert!(before == gone || before == after);
        }
    }

    #[test]
    fn of_two_the_less_loaded_is_taken(busy in 0..100_u32, more in 1..100_u32) {
        let peers = [peer("a", 1, busy), peer("b", 1, busy + more)];
        prop_assert_eq!(first(Router::default().choose(&Route::LeastLoaded, None, "1", &peers)), "a");
    }

    #[test]
    fn what_was_given_counts_until_the_next_beat(workers in 2..8_usize) {
        let peers: Vec<_> = names(workers).iter().map(|name| peer(name, 1, 0)).collect();
        let router = Router::default();
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..workers * 50 {
            *counts.entry(first(router.choose(&Route::LeastLoaded, None, "1", &peers))).or_default() += 1;
        }
        prop_assert!(counts.values().all(|count| (30..=70).contains(count)), "{:?}", counts);
    }
}

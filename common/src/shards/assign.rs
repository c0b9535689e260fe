//! Which worker has which shards: the same calculation at all of them, without a word between them.

use std::collections::BTreeMap;

use crate::route::score;

/// The owner of each of `shards` shards among these workers, by their instance ids in any order. Each owns as many as
/// any other, or one more; when one comes or goes few shards change hands. Empty without workers.
pub fn owners<'a>(shards: u16, instances: &[&'a str]) -> Vec<&'a str> {
    let mut workers: Vec<&str> = instances.to_vec();
    workers.sort_unstable();
    workers.dedup();
    let Ok(count) = u16::try_from(workers.len()) else { return Vec::new() };
    if count == 0 {
        return Vec::new();
    }
    let (least, mut larger) = (shards / count, shards % count);
    let mut owned: BTreeMap<&str, u16> = BTreeMap::new();
    (0..shards)
        .filter_map(|shard| {
            let number = shard.to_string();
            let has = |worker: &&str| owned.get(*worker).copied().unwrap_or(0);
            let takes = |worker: &&&'a str| has(worker) < least || (has(worker) == least && larger > 0);
            let owner = workers.iter().filter(takes).max_by_key(|worker| score(worker, &number)).copied()?;
            let has = owned.entry(owner).or_default();
            *has += 1;
            if *has > least {
                larger -= 1;
            }
            Some(owner)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn instances(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("instance-{number}")).collect()
    }

    proptest! {
        #[test]
        fn every_shard_has_one_owner_and_the_load_is_even(shards in 0..=100_u16, workers in 1..30_usize) {
            let workers = instances(workers);
            let names: Vec<&str> = workers.iter().map(String::as_str).collect();
            let owners = owners(shards, &names);
            prop_assert_eq!(owners.len(), usize::from(shards));
            let owned = |worker: &&str| owners.iter().filter(|owner| owner == &worker).count();
            let (most, fewest) = (names.iter().map(owned).max(), names.iter().map(owned).min());
            prop_assert!(most.unwrap() - fewest.unwrap() <= 1);
            let mut turned = names.clone();
            turned.reverse();
            prop_assert_eq!(owners, super::owners(shards, &turned), "the order in which they are known does not count");
        }
    }

    #[test]
    fn nobody_owns_anything_where_there_is_nobody() {
        assert!(owners(4, &[]).is_empty());
    }
}

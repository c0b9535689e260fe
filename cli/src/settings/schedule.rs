//! A `[schedules.<name>]` table: for `leveret producer` and for `leveret centre`.

use std::fmt;

use leveret::producer::{plan::Definition, settings::ScheduleSettings};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value, json};

/// A schedule as the centre knows it, and whether it runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ScheduleTable {
    #[serde(flatten)]
    pub(crate) definition: Definition,
    /// Whether it runs. One that does not is checked all the same. Default `true`.
    pub(crate) enabled: bool,
}

impl ScheduleTable {
    /// The schedule for the producer, which keeps nothing and so knows fewer keys. An error is the first that it does not
    /// know.
    pub(crate) fn without_centre(&self) -> Result<ScheduleSettings, String> {
        let given = &self.definition;
        let settings = ScheduleSettings {
            cron: given.cron.clone(),
            quartz: given.quartz.clone(),
            every: given.every,
            timezone: given.timezone.clone(),
            task: given.task.clone(),
            queue: given.queue.clone(),
            payload: given.payload.clone(),
            max_attempts: given.max_attempts,
            timeout: given.timeout,
            key: given.key.clone(),
            catch_up: given.catch_up,
            enabled: self.enabled,
        };
        // What is as by default has not been asked for, and what is for people changes nothing.
        let known = ["task", "description", "labels"];
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let (known_to_producer, default) = (object(json!(settings)), object(defaults()));
        let stranger = object(json!(given)).into_iter().find(|(key, value)| {
            !known.contains(&key.as_str()) && !known_to_producer.contains_key(key) && default.get(key) != Some(value)
        });
        stranger.map_or(Ok(settings), |(key, _)| Err(key))
    }
}

/// All that a definition says when it is given no more than its task.
fn defaults() -> Value {
    serde_json::from_value::<Definition>(json!({ "task": "" })).map_or(Value::Null, |definition| json!(definition))
}

impl<'de> Deserialize<'de> for ScheduleTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Table)
    }
}

struct Table;

impl<'de> Visitor<'de> for Table {
    type Value = ScheduleTable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ScheduleTable, A::Error> {
        let mut enabled = true;
        let rest = Rest { map, enabled: &mut enabled };
        let mut definition = Definition::deserialize(MapAccessDeserializer::new(rest))?;
        dates_to_text(&mut definition.payload);
        Ok(ScheduleTable { definition, enabled })
    }
}

/// The keys of a definition: serde's own `flatten` would lose the place of what is wrong.
struct Rest<'a, A> {
    map: A,
    enabled: &'a mut bool,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        loop {
            match self.map.next_key::<String>()? {
                Some(key) if key == "enabled" => *self.enabled = self.map.next_value()?,
                Some(key) => return seed.deserialize(key.into_deserializer()).map(Some),
                None => return Ok(None),
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// A date of TOML, which JSON does not know, becomes a text.
fn dates_to_text(value: &mut Value) {
    /// How the `toml` crate hands a date to a format that has none.
    const DATE: &str = "$__toml_private_datetime";
    match value {
        Value::Object(map) => match take_date(map, DATE) {
            Some(date) => *value = date,
            None => map.values_mut().for_each(dates_to_text),
        },
        Value::Array(values) => values.iter_mut().for_each(dates_to_text),
        _ => {}
    }
}

fn take_date(map: &mut Map<String, Value>, key: &str) -> Option<Value> {
    if map.len() == 1 { map.remove(key) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ScheduleTable {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_producer_names_the_key_that_needs_a_centre() {
        let plain = read("cron = \"@daily\"\ntask = \"t\"\nenabled = false\npayload = { on = 2027-01-01 }\n");
        assert!(!plain.enabled);
        let settings = plain.without_centre().unwrap();
        assert_eq!(settings.payload, json!({ "on": "2027-01-01" }));
        let table = read("cron = \"@daily\"\ntask = \"t\"\nlabels = { team = \"a\" }\nmissed = \"latest\"\n");
        assert!(table.without_centre().is_ok());
        for (key, line) in [("jitter", "jitter = \"5s\""), ("overlap", "overlap = \"skip\""), ("runs", "runs = 3")] {
            let table = read(&format!("cron = \"@daily\"\ntask = \"t\"\n{line}\n"));
            assert_eq!(table.without_centre().unwrap_err(), key);
        }
    }
}

//! Moments as RFC 3339.

use leveret_common::clock::UnixMillis;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, SchemaFormat, schema::KnownFormat, schema::Type},
};

/// The last moment that RFC 3339 has a year for.
const LAST: i64 = 253_402_300_799_999;
/// The first that it is written for here.
const FIRST: i64 = -62_135_596_800_000;

/// A moment as RFC 3339, in UTC when it is written: `2027-01-01T09:00:00.000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub UnixMillis);

impl From<UnixMillis> for Moment {
    fn from(at: UnixMillis) -> Self {
        Self(at)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&UnixMillis(self.0.0.clamp(FIRST, LAST)).to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let at: Result<jiff::Timestamp, _> = text.parse();
        let at = at.map(|at| at.as_millisecond()).ok().filter(|at| (FIRST..=LAST).contains(at));
        let wrong = "a moment is written as RFC 3339 has it, such as \"2027-01-01T09:00:00Z\"";
        at.map(|at| Self(UnixMillis(at))).ok_or_else(|| D::Error::custom(wrong))
    }
}

impl PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        let schema = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples([serde_json::json!("2027-01-01T09:00:00.000Z")]);
        RefOr::T(schema.build().into())
    }
}

impl ToSchema for Moment {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_and_written() {
        let read = |text: &str| serde_json::from_value::<Moment>(text.into());
        let at = read("2027-01-01T10:00:00+01:00").unwrap();
        assert_eq!(serde_json::to_value(at).unwrap(), "2027-01-01T09:00:00.000Z");
        for wrong in ["", "tomorrow", "2027-01-01", "2027-01-01T10:00:00", "99999-01-01T00:00:00Z"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(serde_json::to_value(Moment(UnixMillis(i64::MAX))).unwrap(), "9999-12-31T23:59:59.999Z");
    }
}

//! A calendar from the body of a request: JSON, or a file that others publish.

use std::collections::BTreeMap;

use axum::extract::Request;
use jiff::civil::Date;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    centre::api::{
        Api, Problem, ProblemKind,
        body::{media_type, parse, read},
    },
    plan::{Calendar, CalendarDay, InvalidCalendar},
    schedule::DayKind,
};

/// The days of a calendar.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"days": {"2027-02-06": {"kind": "work", "note": "make-up workday"}, "2027-12-25": {"kind": "off"}}}))]
pub(super) struct Days {
    /// The days by their dates in ISO 8601.
    days: BTreeMap<String, CalendarDay>,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Import {
    /// What the events of an iCalendar body are that do not say so themselves. Default `off`.
    #[param(inline)]
    kind: Option<DayKind>,
    /// The first year for which yearly events of an iCalendar body count. Default: last year.
    #[param(minimum = 1970, maximum = 9999)]
    first_year: Option<i16>,
    /// The last such year. Default: five years from now.
    #[param(minimum = 1970, maximum = 9999)]
    last_year: Option<i16>,
}

/// The calendar that the body of a request describes.
pub(super) async fn calendar(api: &Api, name: String, import: &Import, request: Request) -> Result<Calendar, Problem> {
    let media_type = media_type(request.headers());
    let bytes = read(request, api).await?;
    let text = || std::str::from_utf8(&bytes).map_err(|_| Problem::invalid("the body is no UTF-8"));
    match media_type.as_str() {
        "application/json" => {
            let days = parse::<Days>(&bytes)?.days;
            for date in days.keys() {
                if date.len() != 10 || date.parse::<Date>().is_err() {
                    let pointer = format!("/days/{}", date.replace('~', "~0").replace('/', "~1"));
                    return Err(Problem::invalid_part(pointer, "this is no date: write it such as \"2027-02-06\""));
                }
            }
            Ok(Calendar { name, days })
        }
        "text/csv" => Ok(Calendar::from_csv(&name, text()?)?),
        "text/calendar" => {
            let now = jiff::Timestamp::from_millisecond(api.store.clock().now().0).unwrap_or_default();
            let year = now.to_zoned(jiff::tz::TimeZone::UTC).year();
            let first = import.first_year.unwrap_or(year.saturating_sub(1));
            let last = import.last_year.unwrap_or(year.saturating_add(5));
            if !(1970..=9999).contains(&first) || !(first..=9999).contains(&last) || last - first > 200 {
                let text = "`first_year` and `last_year` are in this order, from 1970 on, and at most 200 years apart";
                return Err(Problem::new(ProblemKind::Malformed, text));
            }
            Ok(Calendar::from_ical(&name, text()?, import.kind.unwrap_or(DayKind::Off), first..=last)?)
        }
        _ => {
            let text = "send `application/json`, `text/calendar` or `text/csv`";
            Err(Problem::new(ProblemKind::UnsupportedMediaType, text))
        }
    }
}

impl From<InvalidCalendar> for Problem {
    fn from(error: InvalidCalendar) -> Self {
        Self::invalid(error)
    }
}

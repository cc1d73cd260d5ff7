// SPDX-License-Identifier: Apache-2.0
//! The phases that a contestant reports about itself: one line of JSON on stderr, a name and a number for each.
//! The floor program does so with `-p`, berth with `BERTH_TIMINGS=1`.

use std::process::Command;

use serde::Serialize;
use serde_json::Value;

use crate::contestant;
use crate::error::Error;
use crate::quiet::Others;
use crate::rounds::{PATIENCE, Stop, check, wait_for_quiet};
use crate::stats;

/// The median of one phase, in the unit that it was reported in (the floor program: microseconds).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) median: f64,
}

/// Runs between two looks at what other programs did.
const TURN: usize = 5;

/// Runs `make` for at least that many times and takes the medians, phase by phase, in the order of the first report.
/// Empty when the program reports nothing.
pub(crate) fn collect(
    make: impl Fn() -> Result<Command, Error>,
    times: usize,
    stop: &Stop,
) -> Result<Vec<Phase>, Error> {
    let mut series: Vec<(String, Vec<f64>)> = Vec::new();
    let turns = times.div_ceil(TURN);
    let mut patience = PATIENCE;
    let mut taken = 0;
    while taken < turns {
        let others = Others::now();
        let mut numbers = Vec::new();
        for _ in 0..TURN {
            check(stop)?;
            numbers.extend(report(&contestant::prove(make()?, "asked for its phases")?));
        }
        if !patience.is_zero() && others.disturbed() {
            wait_for_quiet(&mut patience, stop)?;
            continue;
        }
        taken += 1;
        for (name, value) in numbers {
            match series.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value),
                None => series.push((name, vec![value])),
            }
        }
    }
    Ok(series
        .into_iter()
        .filter_map(|(name, values)| Some(Phase { name, median: stats::median(&values)? }))
        .collect())
}

/// The numbers in the last line that is a JSON object, in its order; those of objects inside it with a path as
/// name.
fn report(stderr: &str) -> Vec<(String, f64)> {
    let mut numbers = Vec::new();
    let object = stderr.lines().rev().find_map(|line| serde_json::from_str::<Ordered>(line.trim()).ok());
    if let Some(Ordered(entries)) = object {
        for (name, value) in entries {
            flatten(name, &value, &mut numbers);
        }
    }
    numbers
}

fn flatten(name: String, value: &Value, into: &mut Vec<(String, f64)>) {
    match value {
        Value::Number(number) => into.extend(number.as_f64().map(|number| (name, number))),
        Value::Object(entries) => {
            for (inner, value) in entries {
                flatten(format!("{name}.{inner}"), value, into);
            }
        }
        _ => {}
    }
}

/// An object as a list: the order of phases is what makes them readable.
struct Ordered(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Ordered {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Ordered, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Ordered;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of phases")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        from.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_keep_their_order_and_other_output_is_passed_over() {
        let stderr =
            "warning: cold\n{\"zeta\": 1.5, \"alpha\": 2, \"in\": {\"b\": 3}, \"name\": \"x\"}\nbye\n";
        let expected = [("zeta", 1.5), ("alpha", 2.0), ("in.b", 3.0)].map(|(name, v)| (name.to_owned(), v));
        assert_eq!(report(stderr), expected);
    }

    #[test]
    fn a_program_that_reports_nothing_has_no_phases() {
        let none = collect(|| Ok(Command::new("true")), 2, &Stop::default()).unwrap();
        assert_eq!(none, []);
    }

    #[test]
    fn each_phase_gets_the_median_of_its_own_numbers() {
        let make = || {
            let mut command = Command::new("sh");
            command.args(["-c", "echo '{\"a\":4,\"b\":8}' >&2"]);
            Ok(command)
        };
        let phases = collect(make, 3, &Stop::default()).unwrap();
        assert_eq!(
            phases.iter().map(|phase| (phase.name.as_str(), phase.median)).collect::<Vec<_>>(),
            [("a", 4.0), ("b", 8.0)]
        );
    }
}

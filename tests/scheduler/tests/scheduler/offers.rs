// SPDX-License-Identifier: Apache-2.0
//! Offers of a stream that nobody has answered. When what becomes free is offered depends on the moment, so a recorded
//! run and ours have different offers; what all of them come to together is the same.

use std::collections::BTreeMap;

use serde_json::Value;

/// What is offered, by name and roles: scalars in thousandths, ranges in words.
pub(crate) type Amounts = BTreeMap<String, (i64, String)>;

/// Offers in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Offers(Vec<(String, Amounts)>);

impl Offers {
    pub(crate) fn add(&mut self, offer: &Value) {
        self.0.push((id(offer), amounts(&offer["resources"])));
    }

    /// Takes one away.
    pub(crate) fn remove(&mut self, id: &str) -> Option<Amounts> {
        let at = self.0.iter().position(|(own, _)| own == id)?;
        Some(self.0.remove(at).1)
    }

    /// Takes the one that came last away, if it came to this.
    pub(crate) fn forget(&mut self, amounts: &Amounts) {
        self.0.pop_if(|(_, last)| last == amounts);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) -> Vec<String> {
        std::mem::take(&mut self.0).into_iter().map(|(id, _)| id).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All together.
    pub(crate) fn sum(&self) -> Amounts {
        self.0.iter().fold(Amounts::new(), |mut sum, (_, amounts)| {
            for (name, (thousandths, words)) in amounts {
                let one = sum.entry(name.clone()).or_default();
                one.0 += thousandths;
                one.1 += words;
            }
            sum
        })
    }

    /// Takes those that come to this: one of them, or all.
    pub(crate) fn take(&mut self, wanted: &Amounts) -> Option<Vec<String>> {
        if let Some(at) = self.0.iter().position(|(_, amounts)| amounts == wanted) {
            return Some(vec![self.0.remove(at).0]);
        }
        (self.sum() == *wanted).then(|| self.clear())
    }

    /// Takes the one that came last.
    pub(crate) fn last(&mut self) -> Option<(String, Amounts)> {
        self.0.pop()
    }
}

/// The id of an offer.
pub(crate) fn id(offer: &Value) -> String {
    offer["id"]["value"].as_str().unwrap().to_owned()
}

/// What a list of resources comes to.
pub(crate) fn amounts(resources: &Value) -> Amounts {
    let mut all = Amounts::new();
    for one in resources.as_array().unwrap() {
        let (role, of) = (&one["role"], &one["allocation_info"]["role"]);
        let key = format!("{} role {role} allocated {of}", one["name"].as_str().unwrap());
        let thousandths = (one["scalar"]["value"].as_f64().unwrap_or_default() * 1000.0).round() as i64;
        let words = one.get("ranges").map(Value::to_string).unwrap_or_default();
        all.insert(key, (thousandths, words));
    }
    all
}

/// Whether a text is the id of an offer.
pub(crate) fn is_id(text: &str) -> bool {
    let number = text.rsplit_once("-O").map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

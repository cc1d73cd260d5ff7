// SPDX-License-Identifier: Apache-2.0
//! Who is offered what: everything that is free goes to the framework and role that have the least, as long as
//! somebody wants it (dominant resource fairness on one agent).

use berth_model::resources::role;
use berth_model::{Resources, Scalar};
use berth_proto::scheduler::offer_constraints::RoleConstraints;
use berth_proto::scheduler::{AttributeConstraint, attribute_constraint};
use berth_proto::v1;
use berth_proto::v1::framework_info::capability::Type as Capability;

use crate::amounts::{NOBODY, allocated, bare, messages};
use crate::clock::Now;
use crate::event;
use crate::framework::Framework;
use crate::state::{Offer, State};

/// Less than both is not worth an offer (`--min_allocatable_resources`).
const LEAST: &[(&str, i64)] = &[("cpus", 10), ("mem", 32_000)];

impl State {
    /// What nobody has and nobody is offered.
    pub(crate) fn available(&self) -> Resources {
        let mut left = self.total.clone();
        self.frameworks.values().for_each(|framework| left -= &bare(&framework.used));
        self.offers.values().for_each(|offer| left -= &offer.resources);
        left
    }

    /// Offers what is free.
    pub(crate) fn allocate(&mut self, now: Now) {
        self.soon = None;
        self.counters.allocations += 1;
        let mut available = self.available();
        if available.is_empty() {
            return;
        }
        for (id, role) in self.queue() {
            let part = available.filter(|one| is_for(one.reservation_role(), &role));
            let framework = &self.frameworks[&id];
            if !self.wants(now, framework, &role, &part) {
                continue;
            }
            available -= &part;
            self.offer(now, &id, role, part);
        }
    }

    /// Frameworks and roles that may be offered something: who has the least comes first.
    fn queue(&self) -> Vec<(String, String)> {
        let share = |resources: &Resources| self.share(resources);
        let mut all = Vec::new();
        for (id, framework) in &self.frameworks {
            if framework.stream.is_none() {
                continue;
            }
            for role in framework.roles() {
                let held = |of_role: Option<&str>| self.held(&role, of_role);
                let key = (share(&held(None)), share(&held(Some(id))), framework.offered);
                all.push((key, id.clone(), role));
            }
        }
        all.sort_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal));
        all.into_iter().map(|(_, id, role)| (id, role)).collect()
    }

    /// What a role has or is offered: of all frameworks, or of one.
    fn held(&self, role: &str, of: Option<&str>) -> Resources {
        let mut held = Resources::new();
        for (id, framework) in &self.frameworks {
            if of.is_none_or(|of| of == id) {
                held += &framework.used.filter(|one| one.allocation_role.as_deref() == Some(role));
            }
        }
        for offer in self.offers.values().filter(|offer| offer.role == role) {
            if of.is_none_or(|of| of == offer.framework) {
                held += &allocated(&offer.resources, role);
            }
        }
        held
    }

    /// The largest part of anything that this is of the whole.
    fn share(&self, resources: &Resources) -> f64 {
        let part = |name: &str| match (resources.scalar(name), self.total.scalar(name)) {
            (Some(part), Some(whole)) if whole > Scalar::ZERO => part.to_f64() / whole.to_f64(),
            _ => 0.0,
        };
        self.total.names().into_iter().map(part).fold(0.0, f64::max)
    }

    fn wants(&self, now: Now, framework: &Framework, role: &str, part: &Resources) -> bool {
        let has_gpus = self.total.scalar("gpus").is_some_and(|gpus| gpus > Scalar::ZERO);
        !framework.suppressed.contains(role)
            && (!has_gpus || framework.can(Capability::GpuResources))
            && is_worth_it(framework, role, part)
            && self.is_let_through(framework, role)
            && !framework.refuses(now.at, role, part)
    }

    /// Whether the framework's constraints allow offers of this agent.
    fn is_let_through(&self, framework: &Framework, role: &str) -> bool {
        let constraints = framework.constraints.as_ref().and_then(|all| all.role_constraints.get(role));
        let Some(RoleConstraints { groups }) = constraints else { return true };
        let holds = |one: &AttributeConstraint| holds(one, &self.agent);
        groups.is_empty() || groups.iter().any(|group| group.attribute_constraints.iter().all(holds))
    }

    fn offer(&mut self, now: Now, framework_id: &str, role: String, resources: Resources) {
        let id = format!("{}-O{}", self.master.id, self.next_offer);
        self.next_offer += 1;
        let expires = self.rules.offer_timeout.and_then(|timeout| now.at.checked_add(timeout));
        let offer = Offer { framework: framework_id.to_owned(), role, resources, expires };
        let message = self.offer_message(&id, &offer);
        self.offers.insert(id, offer);
        if let Some(framework) = self.frameworks.get_mut(framework_id) {
            framework.offered += 1;
            framework.send(event::offers(vec![message]));
        }
    }

    /// An offer, as its framework is told of it.
    pub(crate) fn offer_message(&self, id: &str, offer: &Offer) -> v1::Offer {
        let framework = self.frameworks.get(&offer.framework);
        let form = framework.map_or(crate::amounts::WHOLE, Framework::form);
        let executors = framework.into_iter().flat_map(|framework| framework.executors.keys());
        let allocation = v1::resource::AllocationInfo { role: Some(offer.role.clone()) };
        v1::Offer {
            id: v1::OfferId { value: id.to_owned() },
            framework_id: v1::FrameworkId { value: offer.framework.clone() },
            agent_id: self.agent.id.clone().unwrap_or_default(),
            hostname: self.agent.hostname.clone(),
            url: Some(self.agent_url()),
            domain: self.agent.domain.clone(),
            resources: messages(&allocated(&offer.resources, &offer.role), form),
            attributes: self.agent.attributes.clone(),
            executor_ids: executors.map(|value| v1::ExecutorId { value: value.clone() }).collect(),
            unavailability: None,
            allocation_info: form.allocation.then_some(allocation),
        }
    }

    fn agent_url(&self) -> v1::Url {
        v1::Url {
            scheme: "http".to_owned(),
            address: v1::Address {
                hostname: Some(self.agent.hostname.clone()),
                ip: Some(self.agent_ip.clone()),
                port: self.agent.port(),
            },
            path: Some("/slave(1)".to_owned()),
            ..v1::Url::default()
        }
    }

    /// DECLINE: what is not known is not there to be declined.
    pub(crate) fn decline(
        &mut self,
        now: Now,
        id: &str,
        offers: &[v1::OfferId],
        filters: Option<&v1::Filters>,
    ) {
        self.count("decline");
        let seconds = filters.and_then(|filters| filters.refuse_seconds);
        for offer_id in offers {
            let is_own = |offer: &&Offer| offer.framework == id;
            if self.offers.get(&offer_id.value).filter(is_own).is_none() {
                continue;
            }
            let Some(offer) = self.offers.remove(&offer_id.value) else { continue };
            let (framework, round) = (self.frameworks.get_mut(id), self.rules.round);
            if let Some(framework) = framework {
                framework.refuse(now.at, &offer.role, &offer.resources, seconds, round);
            }
            // Somebody else may want it.
            if self.frameworks.len() > 1 {
                self.soon(now);
            }
        }
    }

    /// REVIVE: offers are welcome again, whatever was refused. A role that is wrong makes all of it void.
    pub(crate) fn revive(&mut self, now: Now, id: &str, roles: &[String]) {
        self.count("revive");
        let Some(framework) = self.frameworks.get_mut(id).filter(|framework| are_its(framework, roles))
        else {
            return;
        };
        let named = |role: &String| roles.is_empty() || roles.contains(role);
        framework.filters.retain(|filter| !named(&filter.role));
        framework.suppressed.retain(|role| !named(role));
        self.allocate(now);
    }

    /// SUPPRESS: no offers until it is revived.
    pub(crate) fn suppress(&mut self, id: &str, roles: &[String]) {
        self.count("suppress");
        let Some(framework) = self.frameworks.get_mut(id).filter(|framework| are_its(framework, roles))
        else {
            return;
        };
        let all = if roles.is_empty() { framework.roles() } else { roles.to_vec() };
        framework.suppressed.extend(all);
    }
}

fn are_its(framework: &Framework, roles: &[String]) -> bool {
    let own = framework.roles();
    roles.iter().all(|role| role::validate(role).is_ok() && own.contains(role))
}

/// Whether what is reserved for one role may be offered to another.
fn is_for(reserved: &str, role: &str) -> bool {
    reserved == NOBODY || reserved == role || role::is_strictly_below(role, reserved)
}

/// Whether it is enough of anything that the framework counts.
fn is_worth_it(framework: &Framework, role: &str, part: &Resources) -> bool {
    let has = |name: &str, thousandths: i64| {
        part.scalar(name).is_some_and(|scalar| scalar.thousandths() >= thousandths)
    };
    let own = framework.info.offer_filters.get(role);
    match own.and_then(|filters| filters.min_allocatable_resources.as_ref()) {
        // Of no list everything is enough.
        Some(least) if least.quantities.is_empty() => !part.is_empty(),
        Some(least) => least
            .quantities
            .iter()
            .any(|one| one.quantities.iter().all(|(name, scalar)| has(name, (scalar.value * 1000.0) as i64))),
        None => LEAST.iter().any(|(name, least)| has(name, *least)),
    }
}

/// Whether an agent is as a constraint wants it. What is no text passes the comparisons of texts.
fn holds(constraint: &AttributeConstraint, agent: &v1::AgentInfo) -> bool {
    use attribute_constraint::selector::PseudoattributeType as Pseudo;
    let Some((selector, predicate)) = constraint.selector.as_ref().zip(constraint.predicate.as_ref()) else {
        return false;
    };
    let fault = agent.domain.as_ref().and_then(|domain| domain.fault_domain.as_ref());
    let texts: Vec<Option<&str>> = match (&selector.attribute_name, selector.pseudoattribute_type()) {
        (Some(name), _) => {
            let named = agent.attributes.iter().filter(|attribute| attribute.name == *name);
            named.map(|attribute| attribute.text.as_ref().map(|text| &*text.value)).collect()
        }
        (None, Pseudo::Hostname) => vec![Some(&*agent.hostname)],
        (None, Pseudo::Region) => fault.iter().map(|fault| Some(&*fault.region.name)).collect(),
        (None, Pseudo::Zone) => fault.iter().map(|fault| Some(&*fault.zone.name)).collect(),
        (None, Pseudo::Unknown) => return false,
    };
    let equals = |wanted: &Option<String>| {
        texts.iter().any(|text| text.is_none_or(|text| Some(text) == wanted.as_deref()))
    };
    if predicate.exists.is_some() {
        !texts.is_empty()
    } else if predicate.not_exists.is_some() {
        texts.is_empty()
    } else if let Some(text) = &predicate.text_equals {
        equals(&text.value)
    } else if let Some(text) = &predicate.text_not_equals {
        texts.iter().all(|one| one.is_none_or(|one| Some(one) != text.value.as_deref()))
    } else {
        false
    }
}

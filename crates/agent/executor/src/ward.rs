// SPDX-License-Identifier: Apache-2.0
//! A task and what is done for it, the same in both executors: a step of its life is written down, then done. Whatever
//! takes time runs beside, so that nothing waits for anything else.

use std::sync::Arc;
use std::time::Duration;

use berth_model::ContainerId;
use berth_tasks::built_in::{Containers, Description};
use tokio::task::JoinSet;

use crate::check::probe::probe;
use crate::check::{Checks, Outcome, Verdict, Which};
use crate::clock::Clock;
use crate::kept::Notes;
use crate::life::{Act, End, Kind, Life};
use crate::report::Reporter;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A task.
pub(crate) struct Ward {
    /// Its place among the executor's.
    pub(crate) at: usize,
    pub(crate) life: Life,
    /// Its container.
    pub(crate) container: ContainerId,
    checks: Option<Checks>,
    /// Force is being used, and has not been answered.
    forcing: bool,
}

impl Ward {
    pub(crate) fn new(at: usize, life: Life, container: ContainerId) -> Ward {
        Ward { at, life, container, checks: None, forcing: false }
    }
}

/// What was under way, and is done.
pub(crate) enum Done {
    Described(Option<Description>),
    Launched(Result<(), String>),
    /// Whether a container of before the restart is there.
    Found(bool),
    Asked,
    Forced,
    Ended(End),
    Probed(Which, Outcome),
}

/// What an executor does things with.
pub(crate) struct Hands {
    pub(crate) clock: Clock,
    pub(crate) containers: Arc<dyn Containers>,
    pub(crate) notes: Notes,
    pub(crate) reports: Reporter,
    /// What is under way, by the place of its task.
    doing: JoinSet<(usize, Done)>,
}

impl Hands {
    pub(crate) fn new(
        clock: Clock,
        containers: Arc<dyn Containers>,
        notes: Notes,
        reports: Reporter,
    ) -> Hands {
        Hands { clock, containers, notes, reports, doing: JoinSet::new() }
    }

    /// What is done next, and of which task; never when nothing is under way.
    pub(crate) async fn next(&mut self) -> (usize, Done) {
        loop {
            match self.doing.join_next().await {
                Some(Ok(done)) => return done,
                Some(Err(error)) => {
                    tracing::error!(error = %error, "a step of an executor has panicked; report this as a bug");
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Lets something run beside.
    pub(crate) fn begin<F>(&mut self, at: usize, work: impl FnOnce(Arc<dyn Containers>) -> F)
    where
        F: Future<Output = Done> + Send + 'static,
    {
        let work = work(Arc::clone(&self.containers));
        self.doing.spawn(async move { (at, work.await) });
    }

    /// One step of a task's life: written down first, then done.
    pub(crate) fn step(&mut self, ward: &mut Ward, step: impl FnOnce(&mut Life, Duration) -> Vec<Act>) {
        let acts = step(&mut ward.life, self.clock.now());
        self.notes.keep(ward.life.id(), ward.life.kept());
        self.act(ward, acts);
    }

    /// Does what was written down.
    pub(crate) fn act(&mut self, ward: &mut Ward, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Report(status) => self.reports.send(*status),
                Act::Ask => {
                    let id = ward.container.clone();
                    self.begin(ward.at, async |containers| {
                        containers.kill(id, SIGTERM).await;
                        Done::Asked
                    });
                }
                Act::Force => self.force(ward),
            }
        }
    }

    fn force(&mut self, ward: &mut Ward) {
        if std::mem::replace(&mut ward.forcing, true) {
            return;
        }
        let id = ward.container.clone();
        let signal = ward.life.kind() == Kind::Member && ward.life.runs();
        self.begin(ward.at, async move |containers| {
            if signal {
                containers.kill(id, SIGKILL).await;
            } else {
                containers.destroy(id).await;
            }
            Done::Forced
        });
    }

    /// It runs: from now on it is looked at how it does.
    pub(crate) fn launched(&mut self, ward: &mut Ward, description: Option<Description>) {
        self.step(ward, |life, now| life.launched(now, description));
        let life = &ward.life;
        if !life.is_checked() {
            return;
        }
        let started = life.kept().started.unwrap_or_else(|| self.clock.now());
        let checks = Checks::new(life.task(), started, life.kept(), life.last());
        for (which, time) in checks.first() {
            self.probe(ward, &checks, which, time);
        }
        ward.checks = Some(checks);
    }

    fn probe(&mut self, ward: &Ward, checks: &Checks, which: Which, time: Duration) {
        let Some(plan) = checks.plan(which).cloned() else { return };
        let (clock, id, kind) = (self.clock, ward.container.clone(), ward.life.kind());
        self.begin(ward.at, async move |containers| {
            clock.reach(Some(time)).await;
            Done::Probed(which, probe(&*containers, &id, kind, plan).await)
        });
    }

    /// What became of something that is the same in both executors.
    pub(crate) fn done(&mut self, ward: &mut Ward, done: Done) {
        match done {
            Done::Described(description) => self.launched(ward, description),
            // Of groups alone, which look at these themselves.
            Done::Launched(_) | Done::Found(_) | Done::Ended(_) => {}
            Done::Asked => self.step(ward, |life, _| {
                life.told();
                Vec::new()
            }),
            Done::Forced => ward.forcing = false,
            Done::Probed(which, outcome) => self.probed(ward, which, &outcome),
        }
    }

    fn probed(&mut self, ward: &mut Ward, which: Which, outcome: &Outcome) {
        if !ward.life.is_checked() {
            return;
        }
        let Some(mut checks) = ward.checks.take() else { return };
        let now = self.clock.now();
        let verdict = checks.heard(which, outcome, now);
        if let Outcome::Failed(why) = outcome {
            tracing::debug!(task = ward.life.id(), container = %ward.container, ?which, why, "a check of a task failed");
        }
        let (was_healthy, failures) = checks.health();
        ward.life.keep_health(was_healthy, failures);
        self.step(ward, |life, now| match verdict {
            Some(Verdict::Result(result)) => life.checked(result),
            Some(Verdict::Health { healthy, kill }) => life.health(now, healthy, kill),
            None => Vec::new(),
        });
        if let (true, Some(time)) = (ward.life.is_checked(), checks.again(which, now)) {
            self.probe(ward, &checks, which, time);
        }
        ward.checks = Some(checks);
    }

    /// Its container has ended.
    pub(crate) fn ended(&mut self, ward: &mut Ward, end: &End) {
        self.step(ward, |life, _| life.ended(end).into_iter().collect());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! How executors come, are ended, end, and are forgotten.

use std::time::Duration;

use berth_model::ContainerTermination;
use berth_proto::executor::{Event, call, event};
use berth_proto::v1;

use super::{At, COMPLETED_FRAMEWORKS, Core, Effect, Executor, Phase, Stage, Timer, Write, of};
use crate::made::{self, Made};

impl Core {
    /// An executor of a framework's opened a stream (reference 31 §1.4).
    pub(super) fn subscribed(&mut self, at: &At, link: u64, pid: Option<String>, subscribe: call::Subscribe) {
        let agent_info = self.agent.clone();
        let over = self.frameworks.get(&at.framework).is_none_or(|framework| framework.over);
        let link_to = Effect::Link { at: at.clone(), link };
        let Some(executor) = self
            .current(at)
            .filter(|executor| !over && matches!(executor.phase, Phase::Registering | Phase::Running))
        else {
            self.effects.push(link_to);
            self.tell(at, of(event::Type::Shutdown));
            return self.effects.push(Effect::Unlink(at.clone()));
        };
        executor.phase = Phase::Running;
        executor.link = Some(link);
        let first = !std::mem::replace(&mut executor.registered, true);
        let moved = executor.pid != pid;
        executor.pid.clone_from(&pid);
        self.effects.push(link_to);
        if first || moved {
            self.write(Write::Registered { at: at.clone(), pid });
        }
        for update in subscribe.unacknowledged_updates {
            self.reported(at, update.status, None);
        }
        self.drop_unknown(at, &subscribe.unacknowledged_tasks);
        let Some(executor) = self.current(at) else { return };
        let untouched = |task: &super::Task| {
            !task.is_open()
                && task.statuses.iter().all(|status| status.source() == v1::task_status::Source::Agent)
        };
        if !executor.tasks.is_empty() && executor.tasks.values().all(untouched) {
            return self.shutdown(at);
        }
        let executor_info = executor.info.clone();
        let Some(framework) = self.frameworks.get(&at.framework) else { return };
        let container_id = Some(berth_proto::convert::container_id_of(&at.container));
        let framework_info = framework.info.clone();
        let subscribed = event::Subscribed { executor_info, framework_info, agent_info, container_id };
        self.tell(at, Event { subscribed: Some(subscribed), ..of(event::Type::Subscribed) });
        self.tell_kills(at);
        self.advance(at);
    }

    /// Ends tasks that were given to an executor of which it says nothing.
    fn drop_unknown(&mut self, at: &At, listed: &[v1::TaskInfo]) {
        let Some(executor) = self.current(at) else { return };
        let is_lost = |(id, task): &(&String, &super::Task)| {
            task.stage == Stage::Launched
                && task.state == v1::TaskState::TaskStaging
                && !listed.iter().any(|listed| listed.task_id.value == **id)
        };
        let lost: Vec<String> = executor.tasks.iter().filter(is_lost).map(|(id, _)| id.clone()).collect();
        for id in lost {
            self.say(at, &id, &Made::Restarted);
        }
    }

    /// Ends an executor in good order.
    pub(super) fn shutdown(&mut self, at: &At) {
        let grace = self.settings.shutdown_grace;
        let Some(executor) =
            self.current(at).filter(|executor| matches!(executor.phase, Phase::Registering | Phase::Running))
        else {
            return;
        };
        executor.phase = Phase::Terminating;
        let own = executor.info.shutdown_grace_period.as_ref();
        let grace = own.map_or(grace, |own| Duration::from_nanos(own.nanoseconds.max(0).cast_unsigned()));
        if executor.can_hear() {
            self.tell(at, of(event::Type::Shutdown));
        }
        self.settle_all(at);
        self.effects.push(Effect::After(grace, Timer::Shutdown(at.clone())));
    }

    /// Ends all that a framework has, and forgets its reports.
    pub(super) fn shutdown_framework(&mut self, id: &str) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        if framework.over {
            return;
        }
        framework.over = true;
        let info = Box::new(framework.info.clone());
        let loose: Vec<String> = std::mem::take(&mut framework.loose).into_keys().collect();
        for executor in framework.executors.values_mut() {
            executor.settling.clear();
            for task in executor.tasks.values_mut() {
                task.stream.forget();
                if task.stage == Stage::Terminated {
                    task.stage = Stage::Completed;
                }
            }
        }
        let all: Vec<At> = framework.executors.values().map(|executor| executor.at.clone()).collect();
        self.write(Write::Framework { info, over: true });
        for task in loose {
            self.write(Write::ForgetRefused { framework: id.to_owned(), task });
        }
        for at in all {
            self.shutdown(&at);
            self.collect(&at);
        }
        self.collect_framework(id);
    }

    /// Its container has ended.
    pub(super) fn ended(&mut self, at: &At, mut termination: Option<ContainerTermination>) {
        let Some(executor) = self.current(at) else { return };
        if executor.ended.is_some() {
            return;
        }
        let is_left = executor.phase == Phase::Terminating && executor.registered && !executor.speaking;
        if is_left && executor.kind.is_built_in() {
            // It said all and went, and its container was ended after it: nobody killed it.
            termination.get_or_insert_default().status = Some(0);
        }
        executor.ended = Some(termination.clone());
        if executor.speaking {
            // It has the first word, and says when it was the last.
            return self.effects.push(Effect::Settle { at: at.clone(), termination });
        }
        self.finish(at);
    }

    /// A built-in executor has said all.
    pub(super) fn over(&mut self, at: &At) {
        let Some(executor) = self.current(at) else { return };
        executor.speaking = false;
        match executor.ended {
            Some(_) => self.finish(at),
            None => {
                executor.phase = Phase::Terminating;
                self.effects.push(Effect::Destroy(at.clone()));
            }
        }
    }

    /// Nothing runs any more, and nobody speaks: what is open is told by the agent.
    fn finish(&mut self, at: &At) {
        self.settle_all(at);
        self.count("executors_terminated");
        let Some(framework) = self.frameworks.get(&at.framework) else { return };
        let (aware, over) = (framework.is_aware(), framework.over);
        let Some(executor) = self.current(at) else { return };
        executor.phase = Phase::Terminated;
        executor.queue.clear();
        executor.link = None;
        let termination = executor.ended.clone().flatten();
        let cause = executor.cause.clone();
        let no_place = executor.no_place.clone();
        let (generated, built_in) = (executor.kind == super::Kind::Command, executor.kind.is_built_in());
        let open: Vec<String> =
            executor.tasks.iter().filter(|(_, task)| task.is_open()).map(|(id, _)| id.clone()).collect();
        if !built_in {
            self.effects.push(Effect::Unlink(at.clone()));
        }
        if over && let Some(executor) = self.current(at) {
            executor.tasks.values_mut().for_each(|task| task.stage = Stage::Completed);
        }
        // Who asked for it hears that it is gone before what became of its tasks.
        if !generated {
            let (framework, executor) = (at.framework.clone(), at.executor.clone());
            let status = termination.as_ref().and_then(|termination| termination.status).unwrap_or(-1);
            self.effects.push(Effect::Exited { framework, executor, status });
        }
        for id in open {
            if over {
                continue;
            }
            if let Some(why) = &no_place {
                self.say(at, &id, &Made::NoPlace(why.clone()));
                continue;
            }
            let (said, limitation) = made::ended(cause.as_ref(), termination.as_ref(), aware);
            let status = self.made(Some(&at.executor), &id, said);
            self.settle(at, v1::TaskStatus { limitation, ..status });
        }
        self.collect(at);
    }

    /// Puts an executor with those that are over, once all its tasks are.
    pub(super) fn collect(&mut self, at: &At) {
        let Some(executor) = self.current(at) else { return };
        let is_over =
            |executor: &Executor| executor.tasks.values().all(|task| task.stage == Stage::Completed);
        if executor.phase != Phase::Terminated || !is_over(executor) {
            return;
        }
        self.write(Write::Over(at.clone()));
        let Some(framework) = self.frameworks.get_mut(&at.framework) else { return };
        let Some(executor) = framework.executors.remove(&at.executor) else { return };
        let forgotten = remember(&mut framework.completed, executor, self.settings.completed_executors);
        if let Some(forgotten) = forgotten {
            self.write(Write::ForgetExecutor(forgotten.at));
        }
        self.collect_framework(&at.framework);
    }

    /// Puts a framework with those that are over, once it has nothing here.
    pub(super) fn collect_framework(&mut self, id: &str) {
        let Some(framework) = self.frameworks.get(id) else { return };
        if !framework.executors.is_empty() || !framework.loose.is_empty() {
            return;
        }
        let Some(framework) = self.frameworks.remove(id) else { return };
        // The same framework may have come and gone before.
        if let Some(at) = self.completed.iter().position(|known| known.info.id == framework.info.id)
            && let Some(before) = self.completed.remove(at)
        {
            let mut completed = before.completed;
            completed.extend(framework.completed);
            while completed.len() > self.settings.completed_executors {
                let Some(oldest) = completed.pop_front() else { break };
                self.write(Write::ForgetExecutor(oldest.at));
            }
            self.completed.push_back(super::Framework { completed, ..framework });
            return;
        }
        if let Some(forgotten) = remember(&mut self.completed, framework, COMPLETED_FRAMEWORKS)
            && let Some(id) = forgotten.info.id
            && !self.frameworks.contains_key(&id.value)
        {
            self.write(Write::ForgetFramework(id.value));
        }
    }
}

/// Puts one more with the last few; the one that is forgotten for it.
pub(super) fn remember<T>(last: &mut std::collections::VecDeque<T>, one: T, most: usize) -> Option<T> {
    last.push_back(one);
    if last.len() > most { last.pop_front() } else { None }
}

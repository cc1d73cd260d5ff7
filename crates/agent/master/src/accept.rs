// SPDX-License-Identifier: Apache-2.0
//! ACCEPT (reference 33.5): offers become tasks. What is wrong with a task is told by a report; the call itself
//! always succeeds.

use berth_model::Resources;
use berth_proto::scheduler::call;
use berth_proto::v1::framework_info::capability::Type as Capability;
use berth_proto::v1::offer::{Operation, operation};
use berth_proto::v1::task_status::Reason;
use berth_proto::v1::{self, TaskState};
use berth_tasks::link::Run;

use crate::amounts::{self, allocate, allocated};
use crate::clock::Now;
use crate::event;
use crate::state::{Order, State};
use crate::task::{Ground, sum};

impl State {
    pub(crate) fn accept(&mut self, now: Now, id: &str, accept: call::Accept) {
        self.count("accept");
        let call::Accept { offer_ids, operations, filters } = accept;
        let usable = self.usable(id, &offer_ids);
        let mut left = Resources::new();
        let mut role = String::new();
        for offer_id in &offer_ids {
            // Another framework's offer is not for this one to consume, whatever it says.
            if self.offers.get(&offer_id.value).is_none_or(|offer| offer.framework != id) {
                continue;
            }
            let Some(offer) = self.offers.remove(&offer_id.value) else { continue };
            left += &allocated(&offer.resources, &offer.role);
            role = offer.role;
        }
        if let Err(why) = usable {
            operations.into_iter().for_each(|one| self.drop_operation(now, id, one, &why));
            self.soon(now);
            return;
        }
        let whole = left.clone();
        for one in operations {
            left = self.operate(now, id, &role, one, left);
        }
        let seconds = filters.and_then(|filters| filters.refuse_seconds);
        let round = self.rules.round;
        let has_launched = left != whole;
        if let Some(framework) = self.frameworks.get_mut(id) {
            framework.refuse(now.at, &role, &left, seconds, round);
        }
        if has_launched || self.frameworks.len() > 1 {
            self.soon(now);
        }
    }

    /// Whether the offers can be used, together.
    fn usable(&self, id: &str, offers: &[v1::OfferId]) -> Result<(), String> {
        if offers.is_empty() {
            return Err("No offers specified".to_owned());
        }
        for (at, offer) in offers.iter().enumerate() {
            if offers[..at].contains(offer) {
                return Err(format!("Duplicate offer {} in offer list", offer.value));
            }
        }
        let mut first: Option<&str> = None;
        for v1::OfferId { value: offer_id } in offers {
            let offer = self.offers.get(offer_id);
            let offer = offer.ok_or_else(|| format!("Offer {offer_id} is no longer valid"))?;
            let owner = &offer.framework;
            if owner != id {
                return Err(format!(
                    "Offer {offer_id} has invalid framework {owner} while framework {id} is expected"
                ));
            }
            let (role, other) = (&*offer.role, *first.get_or_insert(&offer.role));
            if role != other {
                return Err(format!(
                    "Aggregated offers must be allocated to the same role. Offer {offer_id} uses role '{role} but \
                     another is using role '{other}"
                ));
            }
        }
        Ok(())
    }

    /// An operation on offers that can not be used.
    fn drop_operation(&mut self, now: Now, id: &str, operation: Operation, why: &str) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let aware = framework.can(Capability::PartitionAware);
        let state = if aware { TaskState::TaskDropped } else { TaskState::TaskLost };
        match tasks_of(&operation) {
            Some(tasks) => {
                for task in tasks {
                    let message = format!("Task launched with invalid offers: {why}");
                    let (task_id, agent) = (&task.task_id.value, Some(&*task.agent_id.value));
                    let reason = Reason::InvalidOffers;
                    let status = event::status(task_id, agent, state, reason, message, now.wall);
                    framework.send(event::update(status));
                }
            }
            None => {
                self.refuse_operation(
                    id,
                    operation,
                    &format!("Operation attempted with invalid offers: {why}"),
                );
            }
        }
    }

    /// Does one operation with what is left, and answers what is left then.
    fn operate(
        &mut self,
        now: Now,
        id: &str,
        role: &str,
        mut operation: Operation,
        left: Resources,
    ) -> Resources {
        use operation::Type;
        if let Err(why) = form(&operation) {
            match error_of(operation.r#type()) {
                Some(reason) => self.fail(now, id, tasks_of(&operation).unwrap_or_default(), reason, &why),
                None => {
                    let why = format!("Operation attempted with invalid resources: {why}");
                    self.refuse_operation(id, operation, &why);
                }
            }
            return left;
        }
        if let (Some(reason), true) = (error_of(operation.r#type()), operation.id.is_some()) {
            let name = operation.r#type().as_str_name();
            let why = format!("The `id` field cannot be set on {name} operations");
            self.fail(now, id, tasks_of(&operation).unwrap_or_default(), reason, &why);
            return left;
        }
        match operation.r#type() {
            Type::Launch => {
                let tasks = operation.launch.take().map(|launch| launch.task_infos).unwrap_or_default();
                tasks.into_iter().fold(left, |left, task| self.launch(now, id, role, task, left))
            }
            Type::LaunchGroup => match operation.launch_group.take() {
                Some(group) => self.launch_group(now, id, role, group, left),
                None => left,
            },
            Type::Unknown => left,
            _ => {
                let agent = self.agent_id();
                let (pid, host) = (self.agent_pid(), &self.agent.hostname);
                let name = operation.r#type().as_str_name();
                let why = format!("{name} is not supported; on agent {agent} at {pid} ({host})");
                self.refuse_operation(id, operation, &why);
                left
            }
        }
    }

    /// Where the agent is, in the words of libprocess.
    pub(crate) fn agent_pid(&self) -> String {
        format!("slave(1)@{}:{}", self.agent_ip, self.agent.port())
    }

    /// Who named the operation is told that it is refused.
    fn refuse_operation(&mut self, id: &str, operation: Operation, why: &str) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        tracing::debug!(framework = id, why, "an operation is refused");
        if let Some(operation_id) = operation.id {
            framework.send(event::operation(v1::OperationStatus {
                operation_id: Some(operation_id),
                state: v1::OperationState::OperationError.into(),
                message: Some(why.to_owned()),
                ..v1::OperationStatus::default()
            }));
        }
    }

    fn fail(&mut self, now: Now, id: &str, tasks: &[v1::TaskInfo], reason: Reason, why: &str) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        for task in tasks {
            let (task_id, agent) = (&task.task_id.value, Some(&*task.agent_id.value));
            let status = event::status(task_id, agent, TaskState::TaskError, reason, why, now.wall);
            framework.send(event::update(status));
        }
    }

    fn launch(
        &mut self,
        now: Now,
        id: &str,
        role: &str,
        mut task: v1::TaskInfo,
        left: Resources,
    ) -> Resources {
        let Some(framework) = self.frameworks.get(id) else { return left };
        allocate(&mut task.resources, role);
        if let Some(executor) = &mut task.executor {
            allocate(&mut executor.resources, role);
            executor.framework_id.get_or_insert_with(|| v1::FrameworkId { value: id.to_owned() });
        }
        complete_health_check(&mut task);
        let ground = Ground { framework, agent: self.agent_id() };
        if let Err(why) = ground.launch(&task, &left) {
            self.fail(now, id, &[task], Reason::TaskInvalid, &why);
            return left;
        }
        let executor = task.executor.clone();
        self.start(id, executor, vec![task], false, left)
    }

    fn launch_group(
        &mut self,
        now: Now,
        id: &str,
        role: &str,
        group: operation::LaunchGroup,
        left: Resources,
    ) -> Resources {
        let Some(framework) = self.frameworks.get(id) else { return left };
        let operation::LaunchGroup { mut executor, task_group } = group;
        let mut tasks = task_group.tasks;
        allocate(&mut executor.resources, role);
        for task in &mut tasks {
            allocate(&mut task.resources, role);
            if let Some(own) = &mut task.executor {
                allocate(&mut own.resources, role);
            }
            complete_health_check(task);
        }
        let ground = Ground { framework, agent: self.agent_id() };
        if let Err(why) = ground.group(&executor, &tasks, &left) {
            self.fail(now, id, &tasks, Reason::TaskGroupInvalid, &why);
            return left;
        }
        for task in &mut tasks {
            task.executor = Some(executor.clone());
        }
        self.start(id, Some(executor), tasks, true, left)
    }

    /// Gives tasks that are right to the agent.
    fn start(
        &mut self,
        id: &str,
        executor: Option<v1::ExecutorInfo>,
        tasks: Vec<v1::TaskInfo>,
        group: bool,
        mut left: Resources,
    ) -> Resources {
        let framework = self.frameworks.get_mut(id).expect("its tasks were just looked at");
        let mut launch_executor = executor.is_none();
        if let Some(executor) = &executor
            && !framework.executors.contains_key(&executor.executor_id.value)
        {
            launch_executor = true;
            let need = sum(&executor.resources).unwrap_or_default();
            left -= &need;
            framework.charge(&need);
            framework.executors.insert(executor.executor_id.value.clone(), executor.clone());
        }
        for task in &tasks {
            let need = sum(&task.resources).unwrap_or_default();
            left -= &need;
            framework.charge(&need);
            framework.tasks.insert(task.task_id.value.clone(), staging(&framework.info, task));
        }
        let info = framework.info.clone();
        for task in &tasks {
            self.tell_of_task(id, &task.task_id.value);
        }
        let run = Run { framework: info, executor, tasks, group, launch_executor };
        self.orders.push(Order::Run(Box::new(run)));
        left
    }
}

/// The tasks of an operation that launches some.
fn tasks_of(operation: &Operation) -> Option<&[v1::TaskInfo]> {
    match operation.r#type() {
        operation::Type::Launch => Some(operation.launch.as_ref().map_or(&[], |launch| &launch.task_infos)),
        operation::Type::LaunchGroup => {
            Some(operation.launch_group.as_ref().map_or(&[], |group| &group.task_group.tasks))
        }
        _ => None,
    }
}

/// Why the tasks of an operation fail that is wrong; none for one that launches none.
fn error_of(kind: operation::Type) -> Option<Reason> {
    match kind {
        operation::Type::Launch => Some(Reason::TaskInvalid),
        operation::Type::LaunchGroup => Some(Reason::TaskGroupInvalid),
        _ => None,
    }
}

/// Whether all amounts of an operation are some.
fn form(operation: &Operation) -> Result<(), String> {
    let check = |list: &[v1::Resource]| amounts::read(list).map(drop);
    for task in tasks_of(operation).unwrap_or_default() {
        check(&task.resources)?;
        task.executor.iter().try_for_each(|executor| check(&executor.resources))?;
    }
    operation.launch_group.iter().try_for_each(|group| check(&group.executor.resources))?;
    operation.reserve.iter().try_for_each(|one| check(&one.resources).and_then(|()| check(&one.source)))?;
    operation.unreserve.iter().try_for_each(|one| check(&one.resources))?;
    operation.create.iter().try_for_each(|one| check(&one.volumes))?;
    operation.destroy.iter().try_for_each(|one| check(&one.volumes))
}

/// A health check without a type has the one whose part is there.
fn complete_health_check(task: &mut v1::TaskInfo) {
    use v1::health_check::Type;
    let Some(check) = task.health_check.as_mut().filter(|check| check.r#type.is_none()) else { return };
    match (&check.command, &check.http) {
        (Some(_), None) => check.set_type(Type::Command),
        (None, Some(_)) => check.set_type(Type::Http),
        _ => {}
    }
}

/// A task that is given to the agent.
fn staging(framework: &v1::FrameworkInfo, task: &v1::TaskInfo) -> v1::Task {
    let user = task.command.as_ref().and_then(|command| command.user.clone());
    v1::Task {
        name: task.name.clone(),
        task_id: task.task_id.clone(),
        framework_id: framework.id.clone().unwrap_or_default(),
        executor_id: task.executor.as_ref().map(|executor| executor.executor_id.clone()),
        agent_id: task.agent_id.clone(),
        state: TaskState::TaskStaging.into(),
        resources: task.resources.clone(),
        limits: task.limits.clone(),
        labels: task.labels.clone(),
        discovery: task.discovery.clone(),
        container: task.container.clone(),
        health_check: task.health_check.clone(),
        kill_policy: task.kill_policy,
        user,
        ..v1::Task::default()
    }
}

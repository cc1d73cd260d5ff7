// SPDX-License-Identifier: Apache-2.0
//! A recorded conversation of schedulers with a master, said again to ours line by line: each answer and each event is
//! the recorded one, with ids, moments and addresses bound to those of our run.
//!
//! Of events the order is compared, and no time. Offers are the exception: which of them come, and when, depends on the
//! moment at which something becomes free, so their form is compared, and what they come to together ([`Offers`]).

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use berth_proto::scheduler::Event;
use berth_proto::{decode_protobuf, encode_json};
use berth_test_api::Chosen;
use berth_test_api::bind::{Bindings, Rules};
use serde_json::{Value, json};

use crate::Node;
use crate::offers::{self, Amounts, Offers};
use crate::replay::{Answer, PATIENCE, heads};

const DIFFERENCES: &str = include_str!("../../recorded/differences.txt");

const RULES: Rules<'static> = Rules {
    binds: &[
        "uuid",
        "status_update_uuid",
        "executor_pid",
        "timestamp",
        "registered_time",
        "reregistered_time",
        "unregistered_time",
        "start_time",
        "elected_time",
        "nanoseconds",
        "port",
        "hostname",
    ],
    is_id: |text| offers::is_id(text) || is_uuid(text),
    measured: &["build_date", "build_time", "build_user", "git_sha", "version", "flags"],
    unordered: &[
        "resources",
        "unreserved_resources_full",
        "used_resources_full",
        "offered_resources_full",
        "total_resources",
        "allocated_resources",
        "offered_resources",
        "tasks",
        "completed_tasks",
        "frameworks",
        "completed_frameworks",
        "executors",
        "executor_ids",
        "capabilities",
    ],
};

/// Lines that tell of no offers because there are none: those are compared too.
const QUIET: [&str; 2] = ["decline_long.events", "suppressed.events"];

/// The ports of the recording.
const MASTER: &str = "127.0.0.1:15050";
const AGENT: &str = "127.0.0.1:15051";

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().filter(|byte| *byte == b'-').count() == 4
}

/// After which nothing more is told of a task.
const ENDS: [&str; 4] = ["TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR"];

/// Which updates of ours are not acknowledged as they come: a recorded line does that, or what follows it.
pub(crate) struct Kept {
    pub(crate) task: &'static str,
    pub(crate) state: &'static str,
}

/// A subscription.
struct Stream {
    events: Answer,
    is_protobuf: bool,
    /// Its id in our run.
    id: String,
    /// Its framework in our run, once that was told.
    framework: String,
    subscribed: Value,
    /// Events that no recorded one stood for yet, with their place in the stream.
    waiting: VecDeque<(usize, Value)>,
    kept: Vec<Value>,
    arrived: usize,
    /// The place of the last that one stood for, and the task that it was about.
    before: (usize, Value),
    /// Uuids of updates that were seen.
    seen: Vec<Value>,
    ours: Offers,
    theirs: Offers,
    /// What recorded offers that were used before they were told of came to here.
    used: BTreeMap<String, Amounts>,
    last: Value,
    rescinded: usize,
    is_over: bool,
    /// Another stream has its framework, or nobody has.
    is_left: bool,
}

pub(crate) struct Conversation {
    pub(crate) node: Node,
    pub(crate) bindings: Bindings<'static>,
    streams: BTreeMap<String, Stream>,
    kept: &'static [Kept],
    chosen: Chosen,
    wrong: Vec<String>,
    fences: usize,
    is_settled: bool,
    /// When the line before was done.
    since: Instant,
}

impl Conversation {
    pub(crate) fn new(node: Node, kept: &'static [Kept], lines: &[Value]) -> Conversation {
        let is_replayed = |name: &str| lines.iter().any(|line| line["name"] == name);
        let mut bindings = Bindings::new(RULES);
        bindings.bind(MASTER, &node.master);
        bindings.bind(AGENT, &format!("127.0.0.1:{}", node.port));
        let own: u64 = node.master.rsplit(':').next().unwrap().parse().unwrap();
        bindings.bind_value(&json!(15050), &json!(own));
        bindings.bind_value(&json!("15050"), &json!(own.to_string()));
        bindings.bind_value(&json!(15051), &json!(node.port));
        Conversation {
            node,
            bindings,
            streams: BTreeMap::new(),
            kept,
            chosen: Chosen::read(DIFFERENCES, is_replayed),
            wrong: Vec::new(),
            fences: 0,
            is_settled: false,
            since: Instant::now(),
        }
    }

    /// A recorded line.
    pub(crate) fn line(&mut self, line: &Value) {
        let name = line["name"].as_str().unwrap();
        println!("{name}");
        let found = match line["stream"].as_str() {
            Some(stream) => self.events(stream, line),
            None => self.ask(name, line),
        };
        for difference in found {
            let difference = difference.replace('\n', " ").replace('|', "/");
            if !self.chosen.has(name, &difference) {
                println!("  {difference}");
                self.wrong.push(format!("{name} | {difference}"));
            }
        }
        self.since = Instant::now();
    }

    /// All was as recorded, but for what was chosen.
    pub(crate) fn end(self) {
        let Conversation { node, streams, chosen, wrong, .. } = self;
        drop(streams);
        assert!(wrong.is_empty(), "not listed in differences.txt:\n{}", wrong.join("\n"));
        let unseen = chosen.unseen();
        assert!(unseen.is_empty(), "listed in differences.txt, and not there:\n{}", unseen.join("\n"));
        node.leave();
    }

    /// A subscription that the recording shows only the events of.
    pub(crate) fn subscribe(&mut self, stream: &str, info: &Value, line: &Value) {
        let body = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}).to_string();
        let headers = json!({"Content-Type": "application/json", "Accept": "application/json"});
        let request =
            json!({"method": "POST", "path": "/api/v1/scheduler", "headers": headers, "body": body});
        let answer = Answer::to(&self.node.master, &request);
        let recorded: Value = serde_json::from_str(line["request"]["body"].as_str().unwrap()).unwrap();
        let theirs = line["request"]["headers"]["Mesos-Stream-Id"].as_str().unwrap();
        self.opened(stream, answer, theirs, false);
        let framework = recorded["framework_id"]["value"].as_str().unwrap();
        self.is_framework(stream, framework);
    }

    /// The client of a stream goes away.
    pub(crate) fn leave(&mut self, stream: &str) {
        self.streams.remove(stream);
        self.is_settled = false;
    }

    fn opened(&mut self, name: &str, mut events: Answer, theirs: &str, is_protobuf: bool) {
        let id = events.headers["mesos-stream-id"].clone();
        self.bindings.bind_value(&json!(theirs), &json!(id));
        let subscribed = read(&mut events, is_protobuf).unwrap();
        let heartbeat = read(&mut events, is_protobuf).unwrap();
        assert_eq!((&subscribed["type"], &heartbeat["type"]), (&json!("SUBSCRIBED"), &json!("HEARTBEAT")));
        let framework = subscribed["subscribed"]["framework_id"]["value"].as_str().unwrap().to_owned();
        self.leave_framework(&framework);
        let stream = Stream {
            events,
            is_protobuf,
            id,
            framework,
            subscribed,
            waiting: VecDeque::new(),
            kept: Vec::new(),
            arrived: 0,
            before: (0, Value::Null),
            seen: Vec::new(),
            ours: Offers::default(),
            theirs: Offers::default(),
            used: BTreeMap::new(),
            last: Value::Null,
            rescinded: 0,
            is_over: false,
            is_left: false,
        };
        self.streams.insert(name.to_owned(), stream);
        self.is_settled = false;
    }

    /// Nothing more is said by the streams of a framework.
    fn leave_framework(&mut self, framework: &str) {
        let all = self.streams.values_mut().filter(|stream| stream.framework == framework);
        all.for_each(|stream| stream.is_left = true);
    }

    /// A recorded framework is the one of this stream; with it the master and the agent have a name.
    fn is_framework(&mut self, stream: &str, theirs: &str) {
        let stream = &self.streams[stream];
        self.bindings.bind(theirs, &stream.framework);
        let Some((their_master, _)) = theirs.rsplit_once('-').filter(|(master, _)| is_uuid(master)) else {
            return;
        };
        let ours = stream.subscribed["subscribed"]["master_info"]["id"].as_str().unwrap();
        self.bindings.bind_value(&json!(their_master), &json!(ours));
        let state: Value = serde_json::from_str(&self.get("/slaves")).unwrap();
        let agent = state["slaves"][0]["id"].as_str().unwrap();
        self.bindings.bind(&format!("{their_master}-S0"), agent);
        let hostname = state["slaves"][0]["hostname"].as_str().unwrap();
        self.bindings.bind("(127.0.0.1)", &format!("({hostname})"));
    }

    /// What is at a path of the master's.
    pub(crate) fn get(&self, path: &str) -> String {
        Answer::to(&self.node.master, &json!({"method": "GET", "path": path})).body()
    }

    /// A call of ours, which the recording leaves out.
    pub(crate) fn call(&mut self, stream: &str, kind: &str, body: Value) {
        let own = &self.streams[stream];
        let mut call = json!({"type": kind, "framework_id": {"value": own.framework}});
        call[kind.to_lowercase()] = body;
        let headers = json!({"Content-Type": "application/json", "Mesos-Stream-Id": own.id});
        let request = json!({"method": "POST", "path": "/api/v1/scheduler", "headers": headers, "body": call.to_string()});
        let answer = Answer::to(&self.node.master, &request);
        assert_eq!(answer.status, 202, "{call}");
        self.is_settled = false;
    }

    /// Waits until so many offers are there to be answered.
    pub(crate) fn await_offers(&mut self, stream: &str, count: usize) {
        while self.streams[stream].ours.len() < count {
            self.read(stream);
        }
    }

    /// No more than so many offers are there to be answered.
    pub(crate) fn has_offers(&self, stream: &str, count: usize) {
        assert_eq!(self.streams[stream].ours.len(), count, "an offer comes too early");
    }

    /// Waits until the task has come to a state that was told, whoever told it.
    pub(crate) fn await_state(&mut self, stream: &str, task: &str, state: &str) {
        self.update_of(stream, task, Some(state));
    }

    /// Waits until offers were taken back, and others came.
    pub(crate) fn await_fresh_offers(&mut self, stream: &str) {
        let own = self.streams.get_mut(stream).unwrap();
        own.rescinded = 0;
        while self.streams[stream].rescinded == 0 || self.streams[stream].ours.is_empty() {
            self.read(stream);
        }
    }

    /// Declines the offer that came last, which the recording does not tell of.
    pub(crate) fn decline_last(&mut self, stream: &str, seconds: f64) {
        let (id, amounts) = self.newest(stream);
        self.streams.get_mut(stream).unwrap().theirs.forget(&amounts);
        self.call(
            stream,
            "DECLINE",
            json!({"offer_ids": [{"value": id}], "filters": {"refuse_seconds": seconds}}),
        );
    }

    /// Gives all offers back, for others that the recording begins with.
    pub(crate) fn refresh(&mut self, stream: &str) {
        self.settle();
        let own = self.streams.get_mut(stream).unwrap();
        own.theirs.clear();
        let ids: Vec<_> = own.ours.clear().into_iter().map(|id| json!({"value": id})).collect();
        self.call(stream, "DECLINE", json!({"offer_ids": ids, "filters": {"refuse_seconds": 0}}));
    }

    /// Nothing is offered any more, and no offer is there.
    pub(crate) fn suppress(&mut self, stream: &str) {
        self.settle();
        self.call(stream, "SUPPRESS", Value::Null);
        self.refresh(stream);
    }

    /// What has come of what the recording does not tell of is no difference.
    pub(crate) fn forget_events(&mut self, stream: &str) {
        self.settle();
        self.streams.get_mut(stream).unwrap().waiting.clear();
    }

    /// What was offered last and is not answered; the next offer if there is none.
    fn newest(&mut self, stream: &str) -> (String, Amounts) {
        loop {
            let own = self.streams.get_mut(stream).unwrap();
            if let Some(last) = own.ours.last() {
                return last;
            }
            self.read(stream);
        }
    }

    /// Reads the next event of a stream.
    fn read(&mut self, stream: &str) {
        // A stream that goes on has heartbeats at least.
        assert!(self.since.elapsed() < PATIENCE, "what is waited for does not come on {stream}");
        let own = self.streams.get_mut(stream).unwrap();
        let Some(event) = read(&mut own.events, own.is_protobuf) else {
            own.is_over = true;
            return;
        };
        own.arrived += 1;
        let place = own.arrived;
        match event["type"].as_str().unwrap() {
            "HEARTBEAT" => {}
            "OFFERS" => {
                for offer in event["offers"]["offers"].as_array().unwrap() {
                    own.ours.add(offer);
                    own.last = offer.clone();
                }
            }
            "RESCIND" => {
                own.ours.remove(event["rescind"]["offer_id"]["value"].as_str().unwrap());
                own.rescinded += 1;
            }
            "UPDATE" if event["update"]["status"]["uuid"].is_string() => {
                let status = event["update"]["status"].clone();
                if own.seen.contains(&status["uuid"]) {
                    return;
                }
                own.seen.push(status["uuid"].clone());
                let is_kept =
                    |kept: &Kept| status["task_id"]["value"] == kept.task && status["state"] == kept.state;
                if self.kept.iter().any(is_kept) {
                    own.kept.push(event);
                } else {
                    own.waiting.push_back((place, event));
                    self.acknowledge(stream, &status);
                }
            }
            _ => own.waiting.push_back((place, event)),
        }
    }

    fn acknowledge(&mut self, stream: &str, status: &Value) {
        let [agent, task, uuid] = ["agent_id", "task_id", "uuid"].map(|name| status[name].clone());
        self.call(stream, "ACKNOWLEDGE", json!({"agent_id": agent, "task_id": task, "uuid": uuid}));
    }

    /// Waits until an update of a task is there that is to be acknowledged by a line, or was by us.
    fn update_of(&mut self, stream: &str, task: &str, state: Option<&str>) -> Value {
        let is_it = |event: &&Value| {
            let status = &event["update"]["status"];
            status["uuid"].is_string()
                && status["task_id"]["value"] == task
                && state.is_none_or(|state| status["state"] == state)
        };
        loop {
            let own = &self.streams[stream];
            if let Some(event) = own.waiting.iter().map(|(_, event)| event).chain(&own.kept).rfind(is_it) {
                return event["update"]["status"].clone();
            }
            self.read(stream);
        }
    }

    /// All that a call brings about at once has come: the master looked twice who may be offered what, and then told each
    /// stream something that it was asked for afterwards.
    pub(crate) fn settle(&mut self) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let runs = |own: &Conversation| {
            let metrics: Value = serde_json::from_str(&own.get("/metrics/snapshot")).unwrap();
            metrics["allocator/mesos/allocation_runs"].as_f64().unwrap()
        };
        let before = runs(self);
        berth_testing::until("the master looks twice whom to offer what", || runs(self) >= before + 3.0);
        let open = self.streams.iter().filter(|(_, stream)| !stream.is_over && !stream.is_left);
        for name in &open.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.fences += 1;
            let id = format!("fence-{}", self.fences);
            self.call(name, "RECONCILE_OPERATIONS", json!({"operations": [{"operation_id": {"value": id}}]}));
            let is_fence = |(_, event): &(usize, Value)| {
                event["update_operation_status"]["status"]["operation_id"]["value"] == *id
            };
            while !self.streams[name].waiting.iter().any(is_fence) {
                self.read(name);
            }
            let own = self.streams.get_mut(name).unwrap();
            own.waiting.retain(|event| !is_fence(event));
        }
        self.is_settled = true;
    }

    /// A request that was recorded with its answer.
    fn ask(&mut self, name: &str, line: &Value) -> Vec<String> {
        let mut request = line["request"].clone();
        let body: Value =
            serde_json::from_str(request["body"].as_str().unwrap_or_default()).unwrap_or_default();
        let kind = body["type"].as_str().unwrap_or_default().to_owned();
        let path = request["path"].as_str().unwrap().to_owned();
        let is_call = path.ends_with("/api/v1/scheduler");
        if !is_call {
            self.settle();
        }
        let stream = self.stream_of(&request);
        let mut named = Vec::new();
        if let Some(stream) = stream.filter(|_| is_call) {
            named = self.prepare(&stream, &kind, &body, name);
            if kind == "TEARDOWN" {
                self.streams.get_mut(&stream).unwrap().is_left = true;
            }
        }
        let mut own_body = body.clone();
        if let Some(offers) = own_body.get_mut(kind.to_lowercase()).and_then(|call| call.get_mut("offer_ids"))
        {
            *offers = named.iter().map(|(_, ours)| json!({"value": ours})).collect();
        }
        if !own_body.is_null() {
            request["body"] = json!(self.own(&own_body).to_string());
        }
        request["path"] = json!(self.bindings.ours(&path));
        request["headers"] = self.own(&request["headers"]);
        named.iter().for_each(|(theirs, ours)| self.bindings.bind(theirs, ours));
        let mut answer = Answer::to(&self.node.master, &request);
        self.is_settled &= !is_call;
        let recorded = &line["response"];
        let mut found = heads(&answer, recorded);
        if let (200, Some(theirs)) = (answer.status, recorded["headers"]["Mesos-Stream-Id"].as_str()) {
            let is_protobuf = request["headers"]["Accept"] == "application/x-protobuf";
            self.opened(name, answer, theirs, is_protobuf);
            return found;
        }
        if let Some(theirs) = recorded["body"].as_str() {
            found.extend(self.bodies(&path, &answer.body(), theirs));
        }
        found
    }

    fn bodies(&mut self, path: &str, ours: &str, theirs: &str) -> Vec<String> {
        let json = |text: &str| serde_json::from_str::<Value>(text).ok().filter(|value| !value.is_number());
        let inner = |text: &str| {
            text.strip_prefix("cb(").and_then(|text| text.strip_suffix(')')).unwrap_or(text).to_owned()
        };
        match (json(&inner(ours)), json(&inner(theirs))) {
            (Some(ours), Some(theirs)) if path == "/metrics/snapshot" => unknown(&ours, &theirs),
            (Some(ours), Some(theirs)) if theirs["type"] == "GET_METRICS" => {
                let names = |value: &Value| {
                    let metrics = value["get_metrics"]["metrics"].as_array().unwrap();
                    metrics.iter().map(|one| (one["name"].as_str().unwrap().to_owned(), json!(0))).collect()
                };
                unknown(&Value::Object(names(&ours)), &Value::Object(names(&theirs)))
            }
            (Some(ours), Some(theirs)) => self.bindings.differences(&ours, &theirs),
            _ if self.bindings.ours(theirs) == ours => Vec::new(),
            _ => vec![format!("text {:?}, not {theirs:?}", self.bindings.theirs(ours))],
        }
    }

    /// The stream that a recorded call belongs to.
    fn stream_of(&self, request: &Value) -> Option<String> {
        let ours = self.bindings.value(&request["headers"]["Mesos-Stream-Id"])?;
        self.streams.iter().find(|(_, stream)| *ours == *stream.id).map(|(name, _)| name.clone())
    }

    /// What a call names has to be there: offers, which are given back with ours for theirs, and updates.
    fn prepare(&mut self, stream: &str, kind: &str, body: &Value, name: &str) -> Vec<(String, String)> {
        if kind == "ACKNOWLEDGE" {
            let uuid = &body["acknowledge"]["uuid"];
            if self.bindings.value(uuid).is_none() {
                let task = body["acknowledge"]["task_id"]["value"].as_str().unwrap();
                let state = name.find("TASK_").map(|at| &name[at..]);
                let status = self.update_of(stream, task, state);
                self.bindings.bind_value(uuid, &status["uuid"]);
            }
            return Vec::new();
        }
        let mut named = Vec::new();
        let asked = body[kind.to_lowercase()]["offer_ids"].as_array().cloned().unwrap_or_default();
        for theirs in asked.iter().map(|one| one["value"].as_str().unwrap().to_owned()) {
            if !offers::is_id(&theirs) {
                named.push((theirs.clone(), theirs));
                continue;
            }
            if let Some((_, ours)) = named.iter().find(|(known, _)| *known == theirs).cloned() {
                named.push((theirs, ours));
                continue;
            }
            let own = self.streams.get_mut(stream).unwrap();
            match own.theirs.remove(&theirs).and_then(|amounts| own.ours.take(&amounts)) {
                Some(all) => named.extend(all.into_iter().map(|ours| (theirs.clone(), ours))),
                None => {
                    let (ours, amounts) = self.newest(stream);
                    let own = self.streams.get_mut(stream).unwrap();
                    own.used.insert(theirs.clone(), amounts);
                    named.push((theirs, ours));
                }
            }
        }
        named
    }

    /// A recorded document in the words of our run.
    fn own(&self, theirs: &Value) -> Value {
        match theirs {
            Value::String(text) => {
                self.bindings.value(theirs).cloned().unwrap_or_else(|| json!(self.bindings.ours(text)))
            }
            Value::Array(all) => all.iter().map(|one| self.own(one)).collect(),
            Value::Object(all) => all.iter().map(|(name, one)| (name.clone(), self.own(one))).collect(),
            // A number of the recording is not one of ours because it looks like a port.
            other => other.clone(),
        }
    }

    /// Events that were recorded.
    fn events(&mut self, stream: &str, line: &Value) -> Vec<String> {
        let recorded: Vec<Value> = line["events"].as_array().unwrap().iter().map(event).collect();
        let name = line["name"].as_str().unwrap();
        let is_closed = line["closed"].is_string();
        let (mut found, mut are_offers_told) = (Vec::new(), QUIET.contains(&name));
        if recorded.is_empty() && !is_closed {
            self.settle();
        }
        for theirs in &recorded {
            match theirs["type"].as_str().unwrap() {
                "HEARTBEAT" => {}
                "SUBSCRIBED" => {
                    let framework = theirs["subscribed"]["framework_id"]["value"].as_str().unwrap();
                    self.is_framework(stream, framework);
                    let ours = self.streams[stream].subscribed.clone();
                    found.extend(self.bindings.differences(&ours, theirs));
                    // Where none are told, there are none.
                    are_offers_told = self.streams[stream].used.is_empty();
                }
                "OFFERS" => {
                    for offer in theirs["offers"]["offers"].as_array().unwrap() {
                        are_offers_told |= !self.streams[stream].used.contains_key(&offers::id(offer));
                        found.extend(self.offered(stream, offer));
                    }
                }
                "RESCIND" => {
                    while self.streams[stream].rescinded == 0 {
                        self.read(stream);
                    }
                    let own = self.streams.get_mut(stream).unwrap();
                    own.rescinded -= 1;
                    own.theirs.remove(theirs["rescind"]["offer_id"]["value"].as_str().unwrap());
                }
                _ => match self.next(stream, theirs) {
                    Ok(ours) => found.extend(self.bindings.differences(&ours, theirs)),
                    Err(why) => found.push(why),
                },
            }
        }
        if are_offers_told {
            found.extend(self.sums(name, stream));
        }
        while is_closed && !self.streams[stream].is_over {
            self.read(stream);
        }
        // Updates that the recorder took without a word are no difference; anything else is.
        let own = self.streams.get_mut(stream).unwrap();
        let is_update = |event: &Value| event["update"]["status"]["uuid"].is_string();
        let beside = own.waiting.iter().filter(|(_, one)| !is_update(one));
        found.extend(beside.map(|(_, one)| format!("{} beside", brief(one))));
        own.waiting.retain(|(_, one)| is_update(one));
        found
    }

    /// An offer that was recorded: it is there, in this form.
    fn offered(&mut self, stream: &str, theirs: &Value) -> Vec<String> {
        while self.streams[stream].last.is_null() {
            self.read(stream);
        }
        let own = self.streams.get_mut(stream).unwrap();
        let mut found = Vec::new();
        match own.used.remove(&offers::id(theirs)) {
            Some(ours) if ours == offers::amounts(&theirs["resources"]) => {}
            Some(ours) => found.push(format!("an offer of {}", words(&ours))),
            None => own.theirs.add(theirs),
        }
        let strip = |offer: &Value| {
            let mut offer = offer.clone();
            let all = offer.as_object_mut().unwrap();
            for name in ["id", "resources", "executor_ids"] {
                all.remove(name);
            }
            offer
        };
        let ours = strip(&own.last);
        found.extend(
            self.bindings.differences(&ours, &strip(theirs)).iter().map(|one| format!("an offer: {one}")),
        );
        found
    }

    /// Whether all offers come to what was recorded, as soon as they do.
    fn sums(&mut self, name: &str, stream: &str) -> Vec<String> {
        let limit = Instant::now() + PATIENCE / 2;
        loop {
            let own = &self.streams[stream];
            let (ours, theirs) = (own.ours.sum(), own.theirs.sum());
            if ours == theirs {
                return Vec::new();
            }
            let difference = format!("offers of {}, not {}", words(&ours), words(&theirs));
            if Instant::now() > limit || self.chosen.is_listed(name, &difference) {
                return vec![difference];
            }
            self.is_settled = false;
            self.settle();
        }
    }

    /// The event of ours that a recorded one stands for. Before it there is nothing but updates, of which those of other
    /// tasks may come in another order than they were recorded.
    fn next(&mut self, stream: &str, theirs: &Value) -> Result<Value, String> {
        let wanted = brief(theirs);
        loop {
            let own = self.streams.get_mut(stream).unwrap();
            if let Some(kept) = own.kept.iter().find(|one| brief(one) == wanted) {
                return Ok(kept.clone());
            }
            if let Some(at) = own.waiting.iter().position(|(_, one)| brief(one) == wanted) {
                let (place, ours) = own.waiting.remove(at).unwrap();
                let task = ours["update"]["status"]["task_id"].clone();
                let is_free = !task.is_null() && !own.before.1.is_null() && task != own.before.1;
                if place < own.before.0 && !is_free {
                    return Err(format!("{wanted} comes too early"));
                }
                own.before = (place, task);
                return Ok(ours);
            }
            let is_last = |one: &Value| {
                let status = &one["update"]["status"];
                let is_of_task = status["task_id"] == theirs["update"]["status"]["task_id"];
                is_of_task && ENDS.iter().any(|state| status["state"] == *state)
            };
            if let Some((_, last)) = own.waiting.iter().find(|(_, one)| is_last(one)) {
                return Err(format!("{}, not {wanted}", brief(last)));
            }
            if own.is_over || own.waiting.iter().any(|(_, one)| one["update"]["status"]["uuid"].is_null()) {
                return Err(format!("no {wanted}"));
            }
            self.read(stream);
        }
    }

    /// Acknowledges an update that was kept.
    pub(crate) fn let_go(&mut self, stream: &str, task: &str) {
        let status = self.update_of(stream, task, None);
        self.acknowledge(stream, &status);
    }
}

/// An event, as JSON whatever it came in.
fn read(events: &mut Answer, is_protobuf: bool) -> Option<Value> {
    let record = events.record()?;
    Some(if is_protobuf { of_protobuf(&record) } else { serde_json::from_slice(&record).unwrap() })
}

fn of_protobuf(record: &[u8]) -> Value {
    serde_json::from_slice(&encode_json(&decode_protobuf::<Event>(record).unwrap())).unwrap()
}

/// A recorded event.
fn event(recorded: &Value) -> Value {
    match recorded["event"]["base64"].as_str() {
        Some(encoded) => of_protobuf(&berth_test_api::unbase64(encoded)),
        None => recorded["event"].clone(),
    }
}

/// What two events have in common that stand for each other.
fn brief(event: &Value) -> String {
    let status = &event["update"]["status"];
    let of_operation = &event["update_operation_status"]["status"]["operation_id"]["value"];
    let words =
        [&event["type"], &status["task_id"]["value"], &status["state"], &status["source"], of_operation];
    let words: Vec<_> = words.into_iter().filter_map(Value::as_str).collect();
    words.join(" ")
}

fn words(amounts: &Amounts) -> String {
    let one =
        |(name, (thousandths, ranges)): (&String, &(i64, String))| format!("{name}: {thousandths}{ranges}");
    amounts.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Names of ours that the recording does not know: what is measured has no other name here.
fn unknown(ours: &Value, theirs: &Value) -> Vec<String> {
    let ours = ours.as_object().unwrap().keys();
    let beside = ours.filter(|name| theirs.get(name.as_str()).is_none());
    beside.map(|name| format!("{name} is not measured there")).collect()
}

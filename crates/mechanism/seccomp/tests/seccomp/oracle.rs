// SPDX-License-Identifier: Apache-2.0
//! What a profile means, said a second time: rule by rule, from the words of the JSON format, with nothing of
//! the compiler's.

use berth_seccomp::{Action, Comparison, Insn, Profile, Program, caps, syscalls};
use serde_json::{Value, json};

use crate::bpf::{self, Call, X86_64};

#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) action: String,
    pub(crate) errno: Option<u64>,
    pub(crate) rules: Vec<SpecRule>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct SpecRule {
    pub(crate) names: Vec<String>,
    pub(crate) action: String,
    pub(crate) errno: Option<u64>,
    /// (index, operator, value, valueTwo)
    pub(crate) args: Vec<(u8, String, u64, u64)>,
    pub(crate) includes: SpecFilter,
    pub(crate) excludes: SpecFilter,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct SpecFilter {
    pub(crate) arches: Vec<String>,
    pub(crate) caps: Vec<String>,
    pub(crate) min_kernel: Option<(u32, u32)>,
}

/// A profile for one process: the rules that hold for it, with numbers for names.
struct Holding<'a> {
    spec: &'a Spec,
    rules: Vec<(Vec<u32>, &'a SpecRule)>,
    highest: Option<u32>,
}

impl Holding<'_> {
    fn decide(&self, call: &Call) -> u32 {
        const ENOSYS: u32 = 0x0005_0000 | 38;
        if call.arch != X86_64 {
            return 0x8000_0000;
        }
        if call.number >= 0x4000_0000 {
            return ENOSYS;
        }
        let beyond = self.highest.is_some_and(|highest| call.number > highest);
        if beyond && self.spec.action == "SCMP_ACT_ERRNO" {
            return ENOSYS;
        }
        let default = answer(&self.spec.action, self.spec.errno);
        let mut best: Option<(usize, u32)> = None;
        let mut plain = false;
        for (_, rule) in self.rules.iter().filter(|(numbers, _)| numbers.contains(&call.number)) {
            let value = answer(&rule.action, rule.errno);
            if rule.args.is_empty() {
                // The first counts, but not one that only repeats the default.
                if plain || value == default {
                    continue;
                }
                plain = true;
            }
            let matches = rule
                .args
                .iter()
                .all(|(index, op, value, two)| compare(op, call.args[usize::from(*index)], *value, *two));
            let strictness = strictness(&rule.action);
            if matches && best.is_none_or(|(known, _)| strictness < known) {
                best = Some((strictness, value));
            }
        }
        best.map_or(default, |(_, value)| value)
    }
}

impl Spec {
    /// What holds with the bounding set `set` on a kernel.
    fn holding(&self, set: u64, kernel: (u32, u32)) -> Holding<'_> {
        let numbers = |rule: &SpecRule| -> Vec<u32> {
            rule.names.iter().filter_map(|name| syscalls::number(name)).map(u32::from).collect()
        };
        let rules = self.rules.iter().filter(|rule| rule.holds(set, kernel));
        Holding {
            spec: self,
            rules: rules.map(|rule| (numbers(rule), rule)).collect(),
            highest: self.rules.iter().flat_map(numbers).max(),
        }
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        let filter = |filter: &SpecFilter| {
            let mut value = json!({"arches": filter.arches, "caps": filter.caps});
            if let Some((major, minor)) = filter.min_kernel {
                value["minKernel"] = format!("{major}.{minor}").into();
            }
            value
        };
        let rules: Vec<Value> = self
            .rules
            .iter()
            .map(|rule| {
                let args: Vec<Value> = rule
                    .args
                    .iter()
                    .map(|(index, op, value, two)| {
                        json!({"index": index, "op": op, "value": value, "valueTwo": two})
                    })
                    .collect();
                json!({
                    "names": rule.names,
                    "action": rule.action,
                    "errnoRet": rule.errno,
                    "args": args,
                    "comment": "",
                    "includes": filter(&rule.includes),
                    "excludes": filter(&rule.excludes),
                })
            })
            .collect();
        serde_json::to_vec(&json!({
            "defaultAction": self.action,
            "defaultErrnoRet": self.errno,
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
            "syscalls": rules,
        }))
        .unwrap()
    }

    /// From a profile in Docker's format, taken apart by hand.
    pub(crate) fn from_json(text: &str) -> Spec {
        let document: Value = serde_json::from_str(text).unwrap();
        let strings = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().map(|item| item.as_str().unwrap().to_owned()).collect()
        };
        let filter = |value: &Value| SpecFilter {
            arches: strings(&value["arches"]),
            caps: strings(&value["caps"]),
            min_kernel: value["minKernel"].as_str().map(|text| {
                let (major, minor) = text.split_once('.').unwrap();
                (major.parse().unwrap(), minor.parse().unwrap())
            }),
        };
        let rules = document["syscalls"].as_array().unwrap().iter().map(|rule| SpecRule {
            names: strings(&rule["names"]),
            action: rule["action"].as_str().unwrap().to_owned(),
            errno: rule["errnoRet"].as_u64(),
            args: rule["args"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|arg| {
                    let index = u8::try_from(arg["index"].as_u64().unwrap()).unwrap();
                    let op = arg["op"].as_str().unwrap().to_owned();
                    (index, op, arg["value"].as_u64().unwrap(), arg["valueTwo"].as_u64().unwrap_or(0))
                })
                .collect(),
            includes: filter(&rule["includes"]),
            excludes: filter(&rule["excludes"]),
        });
        Spec {
            action: document["defaultAction"].as_str().unwrap().to_owned(),
            errno: document["defaultErrnoRet"].as_u64(),
            rules: rules.collect(),
        }
    }

    /// The profile that the library has, in the words of the format.
    pub(crate) fn of(profile: &Profile) -> Spec {
        let words = |action: Action| match action {
            Action::Allow => ("SCMP_ACT_ALLOW", None),
            Action::Log => ("SCMP_ACT_LOG", None),
            Action::Trace(number) => ("SCMP_ACT_TRACE", Some(number.into())),
            Action::Errno(number) => ("SCMP_ACT_ERRNO", Some(number.into())),
            Action::Trap => ("SCMP_ACT_TRAP", None),
            Action::KillThread => ("SCMP_ACT_KILL_THREAD", None),
            Action::KillProcess => ("SCMP_ACT_KILL_PROCESS", None),
        };
        let sets = |set: u64| SpecFilter { caps: capability_names(set), ..SpecFilter::default() };
        let rules = profile.rules().iter().map(|rule| SpecRule {
            names: rule.calls.iter().map(|call| syscalls::name(*call).unwrap().to_owned()).collect(),
            action: words(rule.action).0.to_owned(),
            errno: words(rule.action).1,
            args: rule
                .tests
                .iter()
                .map(|test| {
                    let (op, value, two) = match test.is {
                        Comparison::NotEqual(value) => ("NE", value, 0),
                        Comparison::Less(value) => ("LT", value, 0),
                        Comparison::LessOrEqual(value) => ("LE", value, 0),
                        Comparison::Equal(value) => ("EQ", value, 0),
                        Comparison::GreaterOrEqual(value) => ("GE", value, 0),
                        Comparison::Greater(value) => ("GT", value, 0),
                        Comparison::Masked { mask, value } => ("MASKED_EQ", mask, value),
                    };
                    (test.arg, format!("SCMP_CMP_{op}"), value, two)
                })
                .collect(),
            includes: sets(rule.with),
            excludes: sets(rule.without),
        });
        let (action, errno) = words(profile.default_action());
        Spec { action: action.to_owned(), errno, rules: rules.collect() }
    }

    /// Every number that exists or could, each with arguments around everything that the rules for it compare
    /// with: the program must answer as the profile does. Returns how many instructions are never reached.
    pub(crate) fn assert_equals(&self, program: &Program, set: u64, kernel: (u32, u32)) -> usize {
        let edges = [0x3fff_ffff, 0x4000_0000, 0x4000_0001, 0x4000_01ff, 0x7fff_ffff, 0x8000_0000, u32::MAX];
        self.assert_equals_for((0..=500).chain(edges), program, set, kernel)
    }

    /// The same for some numbers only.
    pub(crate) fn assert_equals_for(
        &self,
        numbers: impl IntoIterator<Item = u32>,
        program: &Program,
        set: u64,
        kernel: (u32, u32),
    ) -> usize {
        let insns: Vec<Insn> = program.insns().collect();
        let unreached = bpf::check(&insns);
        let holding = self.holding(set, kernel);
        let check = |call: Call| {
            let (expected, found) = (holding.decide(&call), bpf::run_insns(&insns, &call).0);
            assert!(
                found == expected,
                "{:?} {call:x?} with {set:#x}: the program says {found:#x}, the profile {expected:#x}",
                u16::try_from(call.number).ok().and_then(syscalls::name)
            );
        };
        for number in numbers {
            check(Call::new(number, [0; 6]));
            check(Call::new(number, [u64::MAX; 6]));
            check(Call { arch: bpf::I386, ..Call::new(number, [0; 6]) });
            check(Call { arch: bpf::AARCH64, ..Call::new(number, [0; 6]) });
            let rules = holding.rules.iter().filter(|(numbers, _)| numbers.contains(&number));
            let tests: Vec<_> = rules.flat_map(|(_, rule)| &rule.args).collect();
            // The other arguments once match what other rules want of them, and once nothing in particular.
            let mut likely = [0; 6];
            for (index, _, value, two) in &tests {
                likely[usize::from(*index)] = if *two == 0 { *value } else { *two };
            }
            for (index, _, value, two) in &tests {
                for mut args in [likely, [0; 6], [u64::MAX; 6]] {
                    for near in around(*value).into_iter().chain(around(*two)) {
                        args[usize::from(*index)] = near;
                        check(Call::new(number, args));
                    }
                }
            }
        }
        unreached
    }
}

impl SpecRule {
    fn holds(&self, set: u64, kernel: (u32, u32)) -> bool {
        let has = |name: &String| set & (1 << caps::number(name).unwrap()) != 0;
        let native = |name: &String| name == "amd64";
        (self.includes.arches.is_empty() || self.includes.arches.iter().any(native))
            && !self.excludes.arches.iter().any(native)
            && self.includes.caps.iter().all(has)
            && !self.excludes.caps.iter().any(has)
            && self.includes.min_kernel.is_none_or(|minimum| kernel >= minimum)
            && self.excludes.min_kernel.is_none_or(|minimum| kernel < minimum)
    }
}

fn answer(action: &str, errno: Option<u64>) -> u32 {
    let number = u32::try_from(errno.unwrap_or(1)).unwrap();
    match action {
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | number,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | number,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        other => panic!("{other}"),
    }
}

fn strictness(action: &str) -> usize {
    let order = ["KILL_PROCESS", "KILL", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "LOG", "ALLOW"];
    let place = order.iter().position(|name| action == format!("SCMP_ACT_{name}")).unwrap();
    // KILL is another name of KILL_THREAD.
    if place == 2 { 1 } else { place }
}

fn compare(op: &str, arg: u64, value: u64, two: u64) -> bool {
    match op {
        "SCMP_CMP_NE" => arg != value,
        "SCMP_CMP_LT" => arg < value,
        "SCMP_CMP_LE" => arg <= value,
        "SCMP_CMP_EQ" => arg == value,
        "SCMP_CMP_GE" => arg >= value,
        "SCMP_CMP_GT" => arg > value,
        "SCMP_CMP_MASKED_EQ" => arg & value == two,
        other => panic!("{other}"),
    }
}

fn around(value: u64) -> Vec<u64> {
    let mut near = vec![
        value,
        value.wrapping_sub(1),
        value.wrapping_add(1),
        !value,
        value.swap_bytes(),
        value.rotate_left(32),
        value & 0xffff_ffff,
        value & !0xffff_ffff,
        value | 0xffff_ffff_0000_0000,
        value.wrapping_add(1 << 32),
        value.wrapping_sub(1 << 32),
        (value & !0xffff_ffff).wrapping_sub(1),
    ];
    near.extend((0..64).step_by(7).map(|bit| value ^ (1 << bit)));
    near
}

pub(crate) fn capability_names(set: u64) -> Vec<String> {
    // The names in caps.rs are private; profiles only ever name these.
    [
        "DAC_READ_SEARCH",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
    ]
    .iter()
    .chain(&["SYS_NICE", "SYS_TIME", "SYS_TTY_CONFIG", "AUDIT_WRITE", "SYSLOG", "PERFMON", "BPF"])
    .map(|name| format!("CAP_{name}"))
    .filter(|name| set & (1 << caps::number(name).unwrap()) != 0)
    .collect()
}

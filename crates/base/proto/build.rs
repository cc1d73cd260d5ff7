// SPDX-License-Identifier: Apache-2.0
//! Compiles the .proto files, without protoc: to structs by prost, and to tables of fields that the JSON mapping
//! walks (`src/descriptor.rs` has their types). Tables are static data, so a program that starts and ends within
//! milliseconds does not decode descriptors first.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

const ROOT: &str = "proto";
const FILES: &[&str] = &[
    "mesos/v1/mesos.proto",
    "mesos/v1/agent.proto",
    "mesos/v1/executor.proto",
    "mesos/v1/scheduler.proto",
    "mesos/v1/master.proto",
    "mesos/internal/messages.proto",
    "berth/v1/container.proto",
];

/// Messages whose lists Mesos writes in JSON also when they are empty.
const LISTS_ALWAYS: &[&str] = &[
    "mesos.v1.agent.Response.GetTasks",
    "mesos.v1.agent.Response.GetExecutors",
    "mesos.v1.agent.Response.GetFrameworks",
    "mesos.v1.master.Response.GetTasks",
    "mesos.v1.master.Response.GetExecutors",
    "mesos.v1.master.Response.GetFrameworks",
    "mesos.v1.master.Response.GetAgents",
];

/// Messages whose `Debug` must not show what they hold; `src/secret.rs` has another.
const SECRETS: &[&str] = &["mesos.v1.Secret.Value", "mesos.v1.Credential"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={ROOT}");
    let set = protox::compile(FILES, [ROOT])?;
    let tables = Tables::of(&set).write()?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("tables.rs"), tables)?;
    prost_build::Config::new()
        .btree_map(["."])
        .enable_type_names()
        // Most resources have none, and a task's resources are held in several places.
        .boxed(".mesos.v1.Resource.disk")
        .skip_debug(SECRETS)
        .include_file("messages.rs")
        .compile_fds(set)?;
    Ok(())
}

/// All messages and enums by their full names.
#[derive(Default)]
struct Tables {
    messages: BTreeMap<String, DescriptorProto>,
    enums: BTreeMap<String, EnumDescriptorProto>,
}

impl Tables {
    fn of(set: &FileDescriptorSet) -> Tables {
        let mut tables = Tables::default();
        for file in &set.file {
            let package = file.package();
            for message in &file.message_type {
                tables.add(package, message);
            }
            for item in &file.enum_type {
                tables.enums.insert(format!("{package}.{}", item.name()), item.clone());
            }
        }
        tables
    }

    fn add(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for inner in &message.nested_type {
            self.add(&name, inner);
        }
        for item in &message.enum_type {
            self.enums.insert(format!("{name}.{}", item.name()), item.clone());
        }
        self.messages.insert(name, message.clone());
    }

    fn write(&self) -> Result<String, Box<dyn Error>> {
        let mut out = String::new();
        // A static of its own for each: they refer to one another, in circles.
        for (at, (name, message)) in self.messages.iter().enumerate() {
            let is_map_entry = message.options.as_ref().is_some_and(|options| options.map_entry());
            let lists_always = LISTS_ALWAYS.contains(&name.as_str());
            writeln!(
                out,
                "static MESSAGE_{at}: Message = Message {{ name: {name:?}, is_map_entry: {is_map_entry}, \
                 lists_always: {lists_always}, fields: &["
            )?;
            for field in &message.field {
                self.write_field(&mut out, field)?;
            }
            writeln!(out, "] }};")?;
        }
        for (at, (name, item)) in self.enums.iter().enumerate() {
            write!(out, "static ENUM_{at}: Enum = Enum {{ name: {name:?}, values: &[")?;
            for value in &item.value {
                write!(out, "({}, {:?}), ", value.number(), value.name())?;
            }
            writeln!(out, "] }};")?;
        }
        writeln!(out, "/// Every message, sorted by name.")?;
        writeln!(
            out,
            "pub(crate) static MESSAGES: &[&Message] = &{};",
            list("MESSAGE", self.messages.len())
        )?;
        writeln!(out, "/// Every enum, sorted by name.")?;
        writeln!(out, "#[cfg(test)]")?;
        writeln!(out, "pub(crate) static ENUMS: &[&Enum] = &{};", list("ENUM", self.enums.len()))?;
        Ok(out)
    }

    fn write_field(&self, out: &mut String, field: &FieldDescriptorProto) -> Result<(), Box<dyn Error>> {
        let deprecated = field.options.as_ref().is_some_and(|options| options.deprecated());
        let (name, number) = (field.name(), field.number());
        let rule = match field.label() {
            Label::Optional => "Optional",
            Label::Required => "Required",
            Label::Repeated => "Repeated",
        };
        let kind = self.kind(field)?;
        // Mesos writes the default of a field that is unset, unless the field is deprecated.
        let default = match &field.default_value {
            Some(text) if !deprecated => format!("Some({:?})", json_of(field, text)?),
            _ => "None".to_owned(),
        };
        writeln!(
            out,
            "    Field {{ name: {name:?}, number: {number}, rule: Rule::{rule}, kind: {kind}, \
             default_json: {default} }},"
        )?;
        Ok(())
    }

    fn kind(&self, field: &FieldDescriptorProto) -> Result<String, Box<dyn Error>> {
        let target = field.type_name().trim_start_matches('.');
        Ok(match field.r#type() {
            Type::Double => "Kind::Double".to_owned(),
            Type::Int32 => "Kind::Int32".to_owned(),
            Type::Int64 => "Kind::Int64".to_owned(),
            Type::Uint32 => "Kind::Uint32".to_owned(),
            Type::Uint64 => "Kind::Uint64".to_owned(),
            Type::Bool => "Kind::Bool".to_owned(),
            Type::String => "Kind::String".to_owned(),
            Type::Bytes => "Kind::Bytes".to_owned(),
            Type::Message => format!("Kind::Message(&MESSAGE_{})", position(&self.messages, target)?),
            Type::Enum => format!("Kind::Enum(&ENUM_{})", position(&self.enums, target)?),
            other => return Err(format!("{}: the JSON mapping knows no {other:?}", field.name()).into()),
        })
    }
}

fn list(name: &str, count: usize) -> String {
    let names: Vec<String> = (0..count).map(|at| format!("&{name}_{at}")).collect();
    format!("[{}]", names.join(", "))
}

fn position<T>(map: &BTreeMap<String, T>, name: &str) -> Result<usize, String> {
    map.keys().position(|key| key == name).ok_or_else(|| format!("{name} is defined nowhere"))
}

/// The default of a field, as JSON.
fn json_of(field: &FieldDescriptorProto, text: &str) -> Result<String, Box<dyn Error>> {
    Ok(match field.r#type() {
        Type::String | Type::Enum => format!("{text:?}"),
        Type::Double => format!("{:?}", text.parse::<f64>()?),
        _ => text.to_owned(),
    })
}

// SPDX-License-Identifier: Apache-2.0
//! How resources are printed: `name(allocated: R)(reservations: [(STATIC,role)])[DISK]{REV}<SHARED>:value`, joined
//! with `; `. What is for anyone and nothing special prints as the text that a flag takes.

use super::{DiskInfo, DiskSource, DiskSourceType, Reservation, Resource, Resources};
use crate::{Labels, Volume};
use std::fmt;

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("{}");
        }
        for (at, resource) in self.iter().enumerate() {
            write!(f, "{}{resource}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(role) = &self.allocation_role {
            write!(f, "(allocated: {role})")?;
        }
        if !self.reservations.is_empty() {
            let list: Vec<String> = self.reservations.iter().map(|one| format!("({one})")).collect();
            write!(f, "(reservations: [{}])", list.join(","))?;
        }
        if let Some(disk) = &self.disk {
            write!(f, "[{disk}]")?;
        }
        if self.revocable {
            f.write_str("{REV}")?;
        }
        if self.shared {
            f.write_str("<SHARED>")?;
        }
        write!(f, ":{}", self.value)
    }
}

impl fmt::Display for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.kind, self.role)?;
        if let Some(principal) = &self.principal {
            write!(f, ",{principal}")?;
        }
        if let Some(labels) = &self.labels {
            write!(f, ",{}", print_labels(labels))?;
        }
        Ok(())
    }
}

impl fmt::Display for DiskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            write!(f, "{source}")?;
        }
        if let Some(persistence) = &self.persistence {
            write!(f, "{}{}", if self.source.is_some() { "," } else { "" }, persistence.id)?;
        }
        if let Some(volume) = &self.volume {
            write!(f, ":{}", print_volume(volume))?;
        }
        Ok(())
    }
}

impl fmt::Display for DiskSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if self.kind == DiskSourceType::Unknown {
            return Ok(());
        }
        if self.id.is_some() || self.profile.is_some() {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            return write!(f, "({},{},{})", text(&self.vendor), text(&self.id), text(&self.profile));
        }
        let root = match self.kind {
            DiskSourceType::Path => &self.path,
            DiskSourceType::Mount => &self.mount,
            _ => &None,
        };
        match root.as_ref().and_then(|root| root.root.as_ref()) {
            Some(root) => write!(f, ":{root}"),
            None => Ok(()),
        }
    }
}

/// `{key: value, key}`.
pub(super) fn print_labels(labels: &Labels) -> String {
    let print = |label: &crate::Label| match &label.value {
        Some(value) => format!("{}: {value}", label.key),
        None => label.key.clone(),
    };
    format!("{{{}}}", labels.labels.iter().map(print).collect::<Vec<_>>().join(", "))
}

/// `container_path`, or `host_path:container_path:mode`.
fn print_volume(volume: &Volume) -> String {
    match &volume.host_path {
        Some(host) => format!("{host}:{}:{}", volume.container_path, volume.mode.name().to_lowercase()),
        None => volume.container_path.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;

    #[test]
    fn everything_about_a_resource_is_printed() {
        let text = r#"[{"name":"disk","type":"SCALAR","scalar":{"value":10.5},"shared":{},"revocable":{},
            "allocation_info":{"role":"eng/web"},"disk":{
                "source":{"type":"MOUNT","mount":{"root":"/mnt"}},"persistence":{"id":"v1"},
                "volume":{"container_path":"data","host_path":"/h","mode":"RO"}},
            "reservations":[{"type":"STATIC","role":"eng"},{"type":"DYNAMIC","role":"eng/web","principal":"p",
                "labels":{"labels":[{"key":"a","value":"b"},{"key":"c"}]}}]}]"#;
        let resources: Resources = serde_json::from_str(text).unwrap();
        assert_eq!(
            resources.to_string(),
            "disk(allocated: eng/web)(reservations: [(STATIC,eng),(DYNAMIC,eng/web,p,{a: b, c})])\
             [MOUNT:/mnt,v1:/h:data:ro]{REV}<SHARED>:10.5"
        );
    }

    #[test]
    fn sources_of_providers_print_their_names() {
        let mut source = DiskSource::new(DiskSourceType::Raw);
        assert_eq!(source.to_string(), "RAW");
        source.profile = Some("fast".into());
        assert_eq!(source.to_string(), "RAW(,,fast)");
        source.id = Some("7".into());
        source.vendor = Some("acme".into());
        assert_eq!(source.to_string(), "RAW(acme,7,fast)");
    }

    #[test]
    fn plain_resources_are_joined_and_none_is_two_braces() {
        let parsed = from_flag("cpus:1.50; ports:[3-4,1-2,9-9]; zones:{b,a}", "*").unwrap();
        assert_eq!(parsed.resources.to_string(), "cpus:1.5; ports:[1-4, 9-9]; zones:{a, b}");
        assert_eq!(Resources::default().to_string(), "{}");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! `registries.toml` and `registries.d/*.toml`: one place for all that is said of registries.
//!
//! ```toml
//! [registry."docker.io"]                     # the name as references have it: host or host:port
//! mirrors = ["127.0.0.1:5000", "https://mirror.example/hub"]   # asked first, in this order
//! fallback = "always"                        # or "never": the mirrors alone
//!
//! [registry."registry.internal:5000"]
//! plain_http = true                          # http instead of https; only this machine has it without asking
//! ca = "/etc/berth/internal.pem"             # beside the host's own authorities
//! client_cert = "/etc/berth/me.pem"
//! client_key = "/etc/berth/me.key"
//! credentials = "/etc/berth/auth.json"       # before --docker_config and the files of users
//! realms = ["https://tokens.example"]        # may be sent our credentials, when the registry asks for it
//! redirects = ["http://10.0.0.7:9000"]       # may be redirected to, wherever it lies
//! headers = { X-Team = "a" }                 # sent to this registry only
//! proxy = "http://proxy.example:3128"        # or "none"
//!
//! [registry."*"]                             # every registry that has no section of its own
//! mirrors = ["cache.example"]
//!
//! [proxy]                                    # instead of HTTP_PROXY, HTTPS_PROXY, NO_PROXY
//! https = "http://proxy.example:3128"
//! except = [".internal", "10.0.0.0/8"]
//! ```
//!
//! What is not known is an error that names what was probably meant; a registry that two files speak of is an
//! error too. A setting that is silently without effect is the most common complaint about other tools' files.
//! A mirror is a registry: what is said of its own name (authority, credentials, `plain_http`) holds for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_model::Class;
use berth_model::image::Registry;
use toml::{Table, Value};
use ureq_proto::http::{HeaderName, HeaderValue, header};

use crate::credentials::{AuthFile, CredentialError, name_of};
use crate::proxy::{Proxies, Proxy};
use crate::tls::TlsSettings;
use crate::url::{Origin, Scheme, Url};

/// The most bytes of one file.
const MAX: u64 = 1 << 20;
/// The section for all that have none.
const ANY: &str = "*";

/// Why the configuration is refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConfigError {
    /// A file that can not be read.
    #[error("read {path}: {why}; correct its permissions, or remove it")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        why: String,
    },
    /// Not TOML.
    #[error("{path} is not TOML: {why}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// What the parser said, with the line.
        why: String,
    },
    /// A key that does not exist.
    #[error("{path}: {section} has the unknown key '{key}'; {advice}")]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The table.
        section: String,
        /// The key.
        key: String,
        /// The nearest one that exists, or all of them.
        advice: String,
    },
    /// A value that makes no sense.
    #[error("{path}: `{key}` of {section} is refused: {why}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The table.
        section: String,
        /// The key.
        key: String,
        /// What is wrong, and what to write.
        why: String,
    },
    /// Two sections of one registry.
    #[error("the registry '{registry}' has a section in {first} and another in {second}; keep one")]
    Twice {
        /// Its name.
        registry: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A certificate or key that can not be used.
    #[error("use the certificate file {path}: {why}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A proxy that can not be used. Its address may hold a password and is not told.
    #[error("the proxy of {setting} is refused: {why}; write http://host:port")]
    Proxy {
        /// The variable or key.
        setting: String,
        /// Why.
        why: String,
    },
    /// A file of credentials that the configuration names.
    #[error("{0}")]
    Credentials(CredentialError),
}

impl ConfigError {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            ConfigError::Read { .. } => Class::Denied,
            ConfigError::Credentials(error) => error.class(),
            _ => Class::Invalid,
        }
    }
}

/// Whether the registry itself is asked when no mirror has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// Yes.
    #[default]
    Always,
    /// The mirrors alone.
    Never,
}

/// What is said of one registry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Section {
    pub(crate) mirrors: Vec<Mirror>,
    pub(crate) fallback: Fallback,
    pub(crate) plain_http: Option<bool>,
    pub(crate) tls: TlsSettings,
    pub(crate) credentials: Option<Arc<AuthFile>>,
    pub(crate) realms: Vec<Origin>,
    pub(crate) redirects: Vec<Origin>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) proxy: Option<ProxyChoice>,
    /// The file that it stands in; `None` for what nobody wrote.
    pub(crate) file: Option<PathBuf>,
}

/// A registry that is asked instead of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) registry: Registry,
    /// When it is written.
    pub(crate) scheme: Option<Scheme>,
    /// Stands before each repository's name; empty, or ends with a slash.
    pub(crate) prefix: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProxyChoice {
    Direct,
    Through(Arc<Proxy>),
}

/// All that is said of registries.
#[derive(Debug, Clone, Default)]
pub struct RegistryConfig {
    sections: BTreeMap<String, Section>,
    proxies: Option<(Proxies, PathBuf)>,
}

impl RegistryConfig {
    /// Reads `<dir>/registries.toml` and `<dir>/registries.d/*.toml` in the order of their names; what is not there
    /// says nothing.
    pub fn load(dir: &Path) -> Result<RegistryConfig, ConfigError> {
        let mut config = RegistryConfig::default();
        let drop_ins = dir.join("registries.d");
        let wrong =
            |error: std::io::Error| ConfigError::Read { path: drop_ins.clone(), why: error.to_string() };
        let mut files = vec![dir.join("registries.toml")];
        match std::fs::read_dir(&drop_ins) {
            Ok(entries) => {
                let mut more = Vec::new();
                for entry in entries {
                    let path = entry.map_err(wrong)?.path();
                    let hidden =
                        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                    if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
                        more.push(path);
                    }
                }
                more.sort();
                files.extend(more);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(wrong(error)),
        }
        for path in files {
            let read =
                |error: std::io::Error| ConfigError::Read { path: path.clone(), why: error.to_string() };
            let file = match std::fs::File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(read(error)),
            };
            let mut text = String::new();
            std::io::Read::read_to_string(&mut std::io::Read::take(file, MAX), &mut text).map_err(read)?;
            config.add(&path, &text)?;
        }
        Ok(config)
    }

    /// Reads one file's text; `path` is what errors call it.
    pub fn add(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let whole: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Toml {
            path: path.to_owned(),
            why: error.to_string().trim_end().to_owned(),
        })?;
        let mut top = Reader { path, section: "the file".to_owned(), table: whole, known: Vec::new() };
        for (name, value) in top.table("registry")?.unwrap_or_default() {
            self.add_section(path, &name, value)?;
        }
        if let Some(table) = top.table("proxy")? {
            let mut reader = Reader { path, section: "[proxy]".to_owned(), table, known: Vec::new() };
            let proxies = Proxies {
                http: reader.proxy("http")?,
                https: reader.proxy("https")?,
                except: reader.texts("except")?.iter().map(|entry| entry.to_ascii_lowercase()).collect(),
            };
            reader.finish()?;
            if let Some((_, first)) = &self.proxies {
                let (first, second) = (first.clone(), path.to_owned());
                return Err(ConfigError::Twice { registry: "[proxy]".to_owned(), first, second });
            }
            self.proxies = Some((proxies, path.to_owned()));
        }
        top.finish()
    }

    fn add_section(&mut self, path: &Path, name: &str, value: Value) -> Result<(), ConfigError> {
        let section = format!("[registry.\"{name}\"]");
        let wrong = |why: &str| ConfigError::Value {
            path: path.to_owned(),
            section: "[registry]".to_owned(),
            key: name.to_owned(),
            why: why.to_owned(),
        };
        let key = match name {
            ANY => ANY.to_owned(),
            _ => name.parse::<Registry>().map(|registry| name_of(&registry)).map_err(|_| {
                wrong("it is not the name of a registry; write host or host:port as references have it, or \"*\"")
            })?,
        };
        let Value::Table(table) = value else { return Err(wrong("it is not a table")) };
        let mut reader = Reader { path, section, table, known: Vec::new() };
        let read = reader.section()?;
        reader.finish()?;
        if let Some(Section { file: Some(first), .. }) = self.sections.get(&key) {
            let (first, second) = (first.clone(), path.to_owned());
            return Err(ConfigError::Twice { registry: key, first, second });
        }
        self.sections.insert(key, read);
        Ok(())
    }

    /// What holds for a registry: its own section, else that of `*`.
    pub(crate) fn of(&self, registry: &Registry) -> Section {
        self.own(registry).or_else(|| self.sections.get(ANY)).cloned().unwrap_or_default()
    }

    /// Its own section. A mirror has only that, or `*` would make mirrors of mirrors.
    pub(crate) fn own(&self, registry: &Registry) -> Option<&Section> {
        self.sections.get(&name_of(registry))
    }

    /// The proxies, when the configuration speaks of them.
    pub(crate) fn proxies(&self) -> Option<&Proxies> {
        self.proxies.as_ref().map(|(proxies, _)| proxies)
    }
}

/// A table that is taken apart key by key; what is left is unknown.
struct Reader<'a> {
    path: &'a Path,
    section: String,
    table: Table,
    known: Vec<&'static str>,
}

impl Reader<'_> {
    fn section(&mut self) -> Result<Section, ConfigError> {
        let mirrors = self.texts("mirrors")?;
        let mirrors = mirrors.iter().map(|text| self.mirror(text)).collect::<Result<Vec<_>, _>>()?;
        let fallback = match self.text("fallback")?.as_deref() {
            None | Some("always") => Fallback::Always,
            Some("never") if mirrors.is_empty() => {
                return Err(
                    self.wrong("fallback", "it is \"never\" without any mirror: nothing could be pulled")
                );
            }
            Some("never") => Fallback::Never,
            Some(_) => return Err(self.wrong("fallback", "write \"always\" or \"never\"")),
        };
        let plain_http = self.flag("plain_http")?;
        let ca = self.file("ca")?;
        let client = match (self.file("client_cert")?, self.file("client_key")?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(self.wrong("client_cert", "client_cert and client_key go together; write both")),
        };
        let credentials = self.file("credentials")?.map(|path| match AuthFile::open(&path) {
            Ok(Some(file)) => Ok(Arc::new(file)),
            Ok(None) => Err(self.wrong("credentials", &format!("there is no file {}", path.display()))),
            Err(error) => Err(ConfigError::Credentials(error)),
        });
        let proxy = match self.text("proxy")?.as_deref() {
            None => None,
            Some("none") => Some(ProxyChoice::Direct),
            Some(text) => {
                let setting = format!("{} in {}", self.section, self.path.display());
                Some(ProxyChoice::Through(Arc::new(Proxy::parse(text, &setting)?)))
            }
        };
        Ok(Section {
            mirrors,
            fallback,
            plain_http,
            tls: TlsSettings { ca, client },
            credentials: credentials.transpose()?,
            realms: self.origins("realms")?,
            redirects: self.origins("redirects")?,
            headers: self.headers()?,
            proxy,
            file: Some(self.path.to_owned()),
        })
    }

    fn mirror(&self, text: &str) -> Result<Mirror, ConfigError> {
        let wrong = || {
            let why = format!(
                "'{text}' is not a mirror; write host[:port], perhaps http:// or https:// before it and a path after it"
            );
            self.wrong("mirrors", &why)
        };
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(_) => return Err(wrong()),
            None => (None, text),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let registry: Registry = host.parse().map_err(|_| wrong())?;
        let path = path.trim_end_matches('/');
        if !path.is_empty() && path.parse::<berth_model::image::Repository>().is_err() {
            return Err(wrong());
        }
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        Ok(Mirror { registry, scheme, prefix })
    }

    fn headers(&mut self) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
        let Some(table) = self.table("headers")? else { return Ok(Vec::new()) };
        let mut headers = Vec::new();
        for (name, value) in table {
            let wrong = |why: &str| self.wrong("headers", &format!("'{name}' {why}"));
            let Value::String(value) = value else { return Err(wrong("is not a text")) };
            let parsed =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("is not the name of a header"))?;
            // These are ours: they say what the request is, or who we are.
            let ours = [
                header::AUTHORIZATION,
                header::HOST,
                header::CONTENT_LENGTH,
                header::TRANSFER_ENCODING,
                header::CONNECTION,
                header::RANGE,
                header::ACCEPT,
                header::ACCEPT_ENCODING,
                header::EXPECT,
                header::PROXY_AUTHORIZATION,
            ];
            if ours.contains(&parsed) {
                return Err(wrong("is set by the client itself; for a password write `credentials`"));
            }
            let mut value =
                HeaderValue::from_str(&value).map_err(|_| wrong("has a value that no header can have"))?;
            value.set_sensitive(true);
            headers.push((parsed, value));
        }
        Ok(headers)
    }

    fn origins(&mut self, key: &'static str) -> Result<Vec<Origin>, ConfigError> {
        let texts = self.texts(key)?;
        let origin = |text: &String| {
            let url: Result<Url, _> = text.parse();
            url.map(|url| url.origin).map_err(|error| {
                self.wrong(
                    key,
                    &format!("'{text}' is not an origin ({error}); write https://host or https://host:port"),
                )
            })
        };
        texts.iter().map(origin).collect()
    }

    fn proxy(&mut self, key: &'static str) -> Result<Option<Arc<Proxy>>, ConfigError> {
        let setting = format!("`{key}` of [proxy] in {}", self.path.display());
        self.text(key)?.map(|text| Proxy::parse(&text, &setting).map(Arc::new)).transpose()
    }

    fn file(&mut self, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        let path = self.text(key)?.map(PathBuf::from);
        match &path {
            Some(path) if !path.is_absolute() => Err(self.wrong(key, "it is not an absolute path")),
            _ => Ok(path),
        }
    }

    fn text(&mut self, key: &'static str) -> Result<Option<String>, ConfigError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "it is not a text; write it in quotes")),
        }
    }

    fn texts(&mut self, key: &'static str) -> Result<Vec<String>, ConfigError> {
        let wrong = |this: &Self| this.wrong(key, "it is not a list of texts; write [\"one\", \"two\"]");
        let Some(value) = self.take(key) else { return Ok(Vec::new()) };
        let Value::Array(list) = value else { return Err(wrong(self)) };
        let text = |value| if let Value::String(text) = value { Ok(text) } else { Err(wrong(self)) };
        list.into_iter().map(text).collect()
    }

    fn flag(&mut self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Boolean(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.wrong(key, "write true or false")),
        }
    }

    fn table(&mut self, key: &'static str) -> Result<Option<Table>, ConfigError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Table(table)) => Ok(Some(table)),
            Some(_) => Err(self.wrong(key, "it is not a table")),
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    fn wrong(&self, key: &str, why: &str) -> ConfigError {
        let (path, section) = (self.path.to_owned(), self.section.clone());
        ConfigError::Value { path, section, key: key.to_owned(), why: why.to_owned() }
    }

    fn finish(self) -> Result<(), ConfigError> {
        let Some(key) = self.table.keys().next() else { return Ok(()) };
        let nearest = self.known.iter().map(|known| (strsim::damerau_levenshtein(key, known), *known)).min();
        let advice = match nearest {
            Some((distance, known)) if distance <= 1 + key.len() / 3 => format!("did you mean '{known}'?"),
            _ => format!("known are {}", self.known.join(", ")),
        };
        let (path, section) = (self.path.to_owned(), self.section.clone());
        Err(ConfigError::Unknown { path, section, key: key.clone(), advice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(text: &str) -> Result<RegistryConfig, ConfigError> {
        let mut config = RegistryConfig::default();
        config.add(Path::new("/t/registries.toml"), text).map(|()| config)
    }

    fn refused(text: &str) -> String {
        config(text).expect_err(text).to_string()
    }

    #[test]
    fn the_example_of_the_documentation_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let auth = dir.path().join("auth.json");
        std::fs::write(&auth, r#"{"auths":{}}"#).unwrap();
        let example: String = include_str!("config.rs")
            .lines()
            .skip_while(|line| !line.contains("```toml"))
            .skip(1)
            .take_while(|line| !line.contains("```"))
            .map(|line| format!("{}\n", line.trim_start_matches("//!")))
            .collect();
        let config = config(&example.replace("/etc/berth/auth.json", auth.to_str().unwrap())).unwrap();
        let docker = config.of(&"index.docker.io".parse().unwrap());
        assert_eq!(docker.mirrors[1].prefix, "hub/");
        assert_eq!(docker.mirrors[1].scheme, Some(Scheme::Https));
        let internal = config.of(&"registry.internal:5000".parse().unwrap());
        assert_eq!((internal.plain_http, internal.fallback), (Some(true), Fallback::Always));
        assert_eq!(internal.headers.len(), 1);
        assert_eq!(config.of(&"other.example".parse().unwrap()).mirrors.len(), 1);
        assert!(config.own(&"other.example".parse().unwrap()).is_none());
        assert!(config.proxies().unwrap().https.is_some());
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_one() {
        for (text, word) in [
            ("[registry.\"a.example\"]\nmirors = []", "did you mean 'mirrors'?"),
            ("[registry.\"a.example\"]\nplain-http = true", "did you mean 'plain_http'?"),
            ("[registry.\"a.example\"]\ninsecure_skip_verify = true", "known are mirrors, fallback"),
            ("[registry.\"a.example\".mirrors]\nx = 1", "list of texts"),
            ("[registries.\"a.example\"]", "did you mean 'registry'?"),
            ("[proxy]\nhttpss = \"http://x\"", "did you mean 'https'?"),
        ] {
            let error = refused(text);
            assert!(error.contains(word) && error.contains("/t/registries.toml"), "{error}");
        }
    }

    #[test]
    fn values_that_make_no_sense_are_refused_with_what_to_write() {
        for (body, word) in [
            ("mirrors = \"x\"", "list of texts"),
            ("mirrors = [\"ftp://x\"]", "not a mirror"),
            ("mirrors = [\"http://u:p@x\"]", "not a mirror"),
            ("fallback = \"sometimes\"", "\"always\" or \"never\""),
            ("fallback = \"never\"", "without any mirror"),
            ("plain_http = \"yes\"", "true or false"),
            ("ca = \"relative.pem\"", "absolute path"),
            ("client_cert = \"/x\"", "go together"),
            ("credentials = \"/nowhere/x\"", "there is no file"),
            ("realms = [\"tokens.example\"]", "not an origin"),
            ("headers = { Authorization = \"x\" }", "set by the client itself"),
            ("headers = { X = \"a\\nb\" }", "no header can have"),
            ("proxy = \"https://x\"", "only proxies"),
        ] {
            let error = refused(&format!("[registry.\"a.example\"]\n{body}"));
            assert!(error.contains(word) && error.contains("a.example"), "{body}: {error}");
        }
        assert!(refused("[registry.\"a b\"]").contains("not the name of a registry"));
        assert!(refused("[registry").contains("not TOML"));
    }

    #[test]
    fn drop_ins_are_read_in_order_and_a_registry_has_one_place() {
        let dir = tempfile::tempdir().unwrap();
        let drop_ins = dir.path().join("registries.d");
        std::fs::create_dir(&drop_ins).unwrap();
        std::fs::write(dir.path().join("registries.toml"), "[registry.\"a.example\"]\nplain_http = true")
            .unwrap();
        std::fs::write(drop_ins.join("b.toml"), "[registry.\"b.example\"]\nplain_http = true").unwrap();
        std::fs::write(drop_ins.join("ignored.toml.bak"), "nonsense").unwrap();
        std::fs::write(drop_ins.join(".hidden.toml"), "nonsense").unwrap();
        let config = RegistryConfig::load(dir.path()).unwrap();
        assert!(config.own(&"b.example".parse().unwrap()).is_some());
        std::fs::write(drop_ins.join("c.toml"), "[registry.\"A.Example\"]").unwrap();
        let error = RegistryConfig::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("registries.toml") && error.contains("c.toml"), "{error}");
        assert!(RegistryConfig::load(Path::new("/nowhere")).unwrap().sections.is_empty());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
            drop(config(&text));
            drop(config(&format!("[registry.\"a.example\"]\n{text}")));
        }
    }
}

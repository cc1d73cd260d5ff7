// SPDX-License-Identifier: Apache-2.0
//! Requests to one host about one repository: who we are, where we are sent, when to try again.
//!
//! Credentials belong to the host's origin. A redirect to another one carries neither them nor the headers of the
//! configuration, and what asks for credentials there is refused.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_model::SecretBytes;
use berth_model::image::{Registry, Repository};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ureq_proto::http::{HeaderName, HeaderValue, Method, header};

use crate::address::{Reach, Zone};
use crate::challenge::{self, Wanted};
use crate::connect::{Op, Route};
use crate::credentials::{AuthFile, Credential, CredentialError, Found, name_of};
use crate::error::{RegistryError, cut, said};
use crate::exchange::{Exchange, Payload, Reply, Request};
use crate::host::{Host, Role};
use crate::proxy::Proxies;
use crate::token::{Standing, TokenKey, Tokens, bearer, judge, read_grant, scope_of, sensitive};
use crate::url::{Scheme, Url};

/// The most redirects of one request.
const REDIRECTS: usize = 5;
/// The most bytes that a token server may answer with.
const GRANT: u64 = 1 << 20;

/// What sessions share.
pub(crate) struct Shared {
    pub(crate) exchange: Exchange,
    pub(crate) tokens: Tokens,
    pub(crate) proxies: Proxies,
    /// After an image's own and the section's: `--docker_config` and the files of users.
    pub(crate) credentials: Vec<Arc<AuthFile>>,
}

/// A host and a repository of it.
pub(crate) struct Session {
    shared: Arc<Shared>,
    pub(crate) host: Host,
    /// The repository as the host calls it.
    pub(crate) path: String,
    meant: Registry,
    repository: Repository,
    scope: Vec<String>,
    /// The image's own credentials.
    own: Option<Arc<AuthFile>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the host takes from us.
    authorization: Option<HeaderValue>,
    /// Where the host lies.
    zone: Option<Zone>,
    /// Why our credentials were not sent where the host wanted them.
    withheld: Option<String>,
    /// As whom, and from where.
    who: Option<(String, String)>,
}

/// One request about the repository.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: &'a [(HeaderName, HeaderValue)],
}

impl Session {
    /// For doing `actions` (`pull`, `pull,push`) with a repository of the registry that is meant.
    pub(crate) fn new(
        shared: Arc<Shared>,
        host: Host,
        meant: &Registry,
        repository: &Repository,
        actions: &str,
        own: Option<Arc<AuthFile>>,
    ) -> Session {
        // A mirror of Docker's registry has its repositories under their full names too.
        let path = format!("{}{}", host.prefix, meant.path_of(repository));
        let scope = vec![format!("repository:{path}:{actions}")];
        let (meant, repository) = (meant.clone(), repository.clone());
        Session { shared, host, path, meant, repository, scope, own, state: Mutex::default() }
    }

    /// Wants to read another repository too, to mount blobs of it.
    pub(crate) fn also(&mut self, repository: &str) {
        self.scope.push(format!("repository:{repository}:pull"));
    }

    /// The address of something of the repository. A mirror of several registries is told which one is meant, as
    /// containerd tells it.
    pub(crate) fn url(&self, rest: &str) -> Result<Url, RegistryError> {
        let text = format!("{}/v2/{}/{rest}", self.host.origin, self.path);
        let wrong =
            |source| RegistryError::Url { url: text.clone(), from: "the reference".to_owned(), source };
        let url: Url = text.parse().map_err(wrong)?;
        Ok(match self.host.role {
            Role::Registry => url,
            Role::Mirror => url.with_query("ns", &name_of(&self.meant)),
        })
    }

    /// Makes a request, proving who we are when the host asks, and following where it sends us. The answer has
    /// any status but those of redirects and refusals. A stream can be sent only once: when the host wants proof
    /// after it, the answer is an error that is worth another try.
    pub(crate) fn ask(
        &self,
        ask: &Ask<'_>,
        payload: Payload<'_>,
        op: Op<'_>,
    ) -> Result<Reply, RegistryError> {
        let again = match &payload {
            Payload::None => Some(Payload::None),
            Payload::Bytes(bytes) => Some(Payload::Bytes(bytes)),
            Payload::Stream { .. } => None,
        };
        let used = self.state().authorization.clone();
        let (mut reply, home) = self.follow(ask, payload, used.as_ref(), op)?;
        if reply.status == 401 && home {
            let challenges = reply.headers.get_all(header::WWW_AUTHENTICATE);
            let challenges = challenge::parse(challenges.iter().map(HeaderValue::as_bytes));
            let complaint = said(&reply.body.complaint());
            let renewed = self.authorize(&challenges, used.as_ref(), &complaint, op)?;
            self.state().authorization = Some(renewed.clone());
            let Some(again) = again else {
                return Err(RegistryError::Status {
                    what: op.what.to_owned(),
                    status: 401,
                    said: complaint,
                    retry_after: Some(Duration::ZERO),
                });
            };
            let (second, still_home) = self.follow(ask, again, Some(&renewed), op)?;
            reply = second;
            if reply.status == 401 && still_home {
                return Err(self.denied(&mut reply, op));
            }
        }
        match reply.status {
            401 | 403 => Err(self.denied(&mut reply, op)),
            300..=399 if reply.status != 304 => Err(op.answer(format!("its status is {}", reply.status))),
            _ => Ok(reply),
        }
    }

    /// What an unwelcome status means.
    pub(crate) fn unwelcome(&self, mut reply: Reply, op: Op<'_>) -> RegistryError {
        let retry_after = reply.header(header::RETRY_AFTER).and_then(|text| text.trim().parse().ok());
        let retry_after = retry_after.map(|seconds: u64| Duration::from_secs(seconds.min(120)));
        let said = said(&reply.body.complaint());
        let what = op.what.to_owned();
        match reply.status {
            404 => RegistryError::NotFound { what, said },
            status => RegistryError::Status { what, status, said, retry_after },
        }
    }

    fn denied(&self, reply: &mut Reply, op: Op<'_>) -> RegistryError {
        let state = self.state();
        let advice = match (&state.withheld, &state.who) {
            (Some(withheld), _) => withheld.clone(),
            (None, Some((user, source))) => {
                format!("the user '{user}' of {source} may not do this, or the password is wrong")
            }
            (None, None) => self.advice(),
        };
        drop(state);
        let said = said(&reply.body.complaint());
        RegistryError::Denied { what: op.what.to_owned(), status: reply.status, said, advice }
    }

    fn advice(&self) -> String {
        format!(
            "it does not exist or needs credentials; none were found for {} (--docker_config, `credentials` in registries.toml, auth.json)",
            name_of(&self.host.name)
        )
    }

    /// Sends the request and goes where it is sent; also whether the answer is the host's own.
    fn follow(
        &self,
        ask: &Ask<'_>,
        payload: Payload<'_>,
        authorization: Option<&HeaderValue>,
        op: Op<'_>,
    ) -> Result<(Reply, bool), RegistryError> {
        let mut headers = ask.headers.to_vec();
        headers.push((
            header::USER_AGENT,
            HeaderValue::from_static(concat!("berth/", env!("CARGO_PKG_VERSION"))),
        ));
        let bare = headers.clone();
        headers.extend(self.host.section.headers.iter().cloned());
        headers.extend(authorization.map(|value| (header::AUTHORIZATION, value.clone())));
        let request = Request { method: ask.method.clone(), url: &ask.url, headers };
        let mut home = ask.url.origin == self.host.origin;
        if !home {
            return Err(op.answer(format!("it belongs to {}, not to {}", ask.url.origin, self.host.origin)));
        }
        let mut reply = self.shared.exchange.send(&request, payload, &self.host.route, op)?;
        self.note_zone(&reply);
        let mut at = ask.url.clone();
        let mut headers = request.headers;
        for _ in 0..REDIRECTS {
            let redirects = matches!(reply.status, 301 | 302 | 303 | 307 | 308);
            if !redirects || !matches!(ask.method, Method::GET | Method::HEAD) {
                return Ok((reply, home));
            }
            let location =
                reply.header(header::LOCATION).ok_or_else(|| op.answer("it redirects to nowhere"))?;
            let next = at.join(location).map_err(|error| RegistryError::Redirect {
                what: op.what.to_owned(),
                to: cut(location, 200),
                why: error.to_string(),
            })?;
            let route = self.judge_redirect(&at, &next, op)?;
            drop(reply.body.complaint());
            if next.origin != at.origin {
                // Never taken up again: coming back from elsewhere is not the host's own wish any more.
                headers = bare.clone();
                home = false;
            }
            let request = Request { method: ask.method.clone(), url: &next, headers: headers.clone() };
            reply = self.shared.exchange.send(&request, Payload::None, &route, op)?;
            at = next;
        }
        Err(RegistryError::Redirect {
            what: op.what.to_owned(),
            to: at.shown(),
            why: format!("it is the {REDIRECTS}th in a row"),
        })
    }

    fn judge_redirect(&self, from: &Url, to: &Url, op: Op<'_>) -> Result<Route, RegistryError> {
        if to.origin == self.host.origin {
            return Ok(self.host.route.clone());
        }
        let configured = self.host.section.redirects.contains(&to.origin);
        if !configured && from.origin.scheme == Scheme::Https && to.origin.scheme == Scheme::Http {
            return Err(RegistryError::Redirect {
                what: op.what.to_owned(),
                to: to.shown(),
                why: "it leaves https; if it is meant, name its origin in `redirects` of the registry's section".to_owned(),
            });
        }
        let reach = if configured { Reach::Configured } else { Reach::SentFrom(self.zone()) };
        let proxy = self.shared.proxies.of(&to.origin);
        Ok(Route { tls: Arc::clone(&self.host.elsewhere), proxy, reach })
    }

    /// Something to prove who we are with, that is not what was just refused.
    fn authorize(
        &self,
        challenges: &[challenge::Challenge],
        refused: Option<&HeaderValue>,
        complaint: &str,
        op: Op<'_>,
    ) -> Result<HeaderValue, RegistryError> {
        let denied = |advice: String| RegistryError::Denied {
            what: op.what.to_owned(),
            status: 401,
            said: complaint.to_owned(),
            advice,
        };
        let found = self.credential(op)?;
        self.state().who = found.as_ref().map(|f| (f.credential.user().to_owned(), f.source.clone()));
        if let Some(Found { credential: Credential::Bearer { secret }, source }) = &found {
            let token = bearer(secret.expose_secret());
            return match token {
                Some(token) if refused != Some(&token) => Ok(token),
                Some(_) => Err(denied(format!("the token of {source} is not accepted"))),
                None => Err(denied(format!("the token of {source} has characters that no header can have"))),
            };
        }
        match challenge::choose(challenges) {
            None => {
                let schemes: Vec<String> = challenges.iter().map(|c| cut(&c.scheme, 20)).collect();
                Err(denied(match schemes.is_empty() {
                    true => "it does not say how to prove who we are".to_owned(),
                    false => {
                        format!("it asks for {}, and only basic and bearer are supported", schemes.join(", "))
                    }
                }))
            }
            Some(Wanted::Basic) => {
                let Some(Found { credential: Credential::Password { user, secret }, source }) = &found else {
                    return Err(denied(self.advice()));
                };
                let value = basic(user, secret);
                if refused == Some(&value) {
                    return Err(denied(format!("the user '{}' of {source} is not accepted", cut(user, 80))));
                }
                Ok(value)
            }
            Some(Wanted::Bearer { realm, service, scope }) => {
                let (realm, service) = match realm {
                    Some(realm) => (realm, service),
                    None => self.ping_realm(op)?,
                };
                self.token(&realm, service, scope.as_deref(), found.as_ref(), refused, op)
            }
        }
    }

    /// The realm that the registry's root names, when a challenge has none.
    fn ping_realm(&self, op: Op<'_>) -> Result<(String, Option<String>), RegistryError> {
        let text = format!("{}/v2/", self.host.origin);
        let url: Url = text.parse().map_err(|source| RegistryError::Url {
            url: text,
            from: "the reference".to_owned(),
            source,
        })?;
        let ask = Ask { method: Method::GET, url, headers: &[] };
        let (reply, home) = self.follow(&ask, Payload::None, None, op)?;
        let values = reply.headers.get_all(header::WWW_AUTHENTICATE);
        match challenge::choose(&challenge::parse(values.iter().map(HeaderValue::as_bytes))) {
            Some(Wanted::Bearer { realm: Some(realm), service, .. }) if home => Ok((realm, service)),
            _ => Err(op.answer("it wants a token, and neither the answer nor /v2/ says from which realm")),
        }
    }

    fn token(
        &self,
        realm: &str,
        service: Option<String>,
        scope: Option<&str>,
        found: Option<&Found>,
        refused: Option<&HeaderValue>,
        op: Op<'_>,
    ) -> Result<HeaderValue, RegistryError> {
        let wrong =
            |why: String| RegistryError::Realm { what: op.what.to_owned(), realm: cut(realm, 200), why };
        let url: Url = realm.parse().map_err(|error| wrong(format!("{error}")))?;
        let standing = judge(&url, &self.host.origin, &self.host.section.realms).map_err(wrong)?;
        let trusted = standing != Standing::Stranger;
        let credential = found.filter(|_| trusted);
        self.state().withheld = match (found, trusted) {
            (Some(found), false) => Some(format!(
                "the registry wants the password of '{}' to be sent to {}, which is of another domain, so it was asked without; if it is meant, name it in `realms` of the registry's section",
                cut(found.credential.user(), 80),
                url.origin
            )),
            _ => None,
        };
        let scope = scope_of(scope, &self.scope);
        let who = credential.map(|found| (found.credential.user().to_owned(), found.source.clone()));
        let key = TokenKey { realm: url.to_string(), service, scope, who };
        if let Some(token) = self.shared.tokens.get(&key, refused) {
            return Ok(token);
        }
        let route = match standing {
            Standing::Own => self.host.route.clone(),
            Standing::Configured => self.elsewhere(&url, Reach::Configured),
            Standing::Relative | Standing::Stranger => self.elsewhere(&url, Reach::SentFrom(self.zone())),
        };
        let mut reply = self.request_token(&url, &key, credential, &route, op)?;
        match reply.status {
            200 => {}
            300..=399 => return Err(wrong("it redirects, and credentials do not follow".to_owned())),
            400 | 401 | 403 => return Err(self.denied(&mut reply, op)),
            _ => return Err(self.unwelcome(reply, op)),
        }
        let body = reply.body.read_all(GRANT)?;
        let granted = read_grant(&body).map_err(|why| wrong(why.to_owned()))?;
        self.shared.tokens.keep(key, granted.token.clone(), granted.lives);
        Ok(granted.token)
    }

    fn request_token(
        &self,
        url: &Url,
        key: &TokenKey,
        credential: Option<&Found>,
        route: &Route,
        op: Op<'_>,
    ) -> Result<Reply, RegistryError> {
        let mut headers = vec![
            (header::USER_AGENT, HeaderValue::from_static(concat!("berth/", env!("CARGO_PKG_VERSION")))),
            (header::ACCEPT, HeaderValue::from_static("application/json")),
        ];
        if let Some(Credential::Identity { secret }) = credential.map(|found| &found.credential) {
            let form = refresh_form(key, secret);
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.push((header::CONTENT_TYPE, kind));
            let request = Request { method: Method::POST, url, headers };
            return self.shared.exchange.send(&request, Payload::Bytes(form.expose_secret()), route, op);
        }
        let mut asked = url.clone();
        if let Some(service) = &key.service {
            asked = asked.with_query("service", service);
        }
        for scope in &key.scope {
            asked = asked.with_query("scope", scope);
        }
        if let Some(Credential::Password { user, secret }) = credential.map(|found| &found.credential) {
            asked = asked.with_query("account", user);
            headers.push((header::AUTHORIZATION, basic(user, secret)));
        }
        let request = Request { method: Method::GET, url: &asked, headers };
        self.shared.exchange.send(&request, Payload::None, route, op)
    }

    fn elsewhere(&self, url: &Url, reach: Reach) -> Route {
        let proxy = self.shared.proxies.of(&url.origin);
        Route { tls: Arc::clone(&self.host.elsewhere), proxy, reach }
    }

    /// Who we are to this host, from the first source that knows.
    pub(crate) fn credential(&self, op: Op<'_>) -> Result<Option<Found>, RegistryError> {
        let sources = self.own.iter().chain(&self.host.section.credentials).chain(&self.shared.credentials);
        for source in sources {
            let found = source.find(&self.host.name, Some(&self.repository), op.cancel);
            match found {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(CredentialError::Cancelled { .. }) => return Err(op.cancelled()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn note_zone(&self, reply: &Reply) {
        let mut state = self.state();
        if state.zone.is_none() {
            // Behind a proxy only the text can tell; a name there is taken for one of the internet.
            let literal = || self.host.origin.literal();
            state.zone = Some(reply.peer.or_else(literal).map_or(Zone::Public, Zone::of));
        }
    }

    fn zone(&self) -> Zone {
        self.state().zone.unwrap_or(Zone::Public)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn basic(user: &str, secret: &SecretBytes) -> HeaderValue {
    let pair = SecretBytes::new([user.as_bytes(), b":", secret.expose_secret()].concat());
    let text = format!("Basic {}", STANDARD.encode(pair.expose_secret()));
    sensitive(text.as_bytes()).expect("base64 is made of visible characters")
}

fn refresh_form(key: &TokenKey, secret: &SecretBytes) -> SecretBytes {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let token = String::from_utf8_lossy(secret.expose_secret());
    let mut form = format!("grant_type=refresh_token&client_id=berth&refresh_token={}", encode(&token));
    if let Some(service) = &key.service {
        form.push_str(&format!("&service={}", encode(service)));
    }
    if !key.scope.is_empty() {
        form.push_str(&format!("&scope={}", encode(&key.scope.join(" "))));
    }
    SecretBytes::new(form)
}
